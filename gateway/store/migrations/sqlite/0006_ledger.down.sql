ALTER TABLE reservation DROP COLUMN working_until;
ALTER TABLE reservation DROP COLUMN worker;
DROP TABLE abandoned_upload;
DROP INDEX blob_by_uncharging;
DROP INDEX blob_by_orphanage;
CREATE INDEX blob_by_orphanage ON blob (orphan_since) WHERE orphan_since IS NOT NULL;
CREATE INDEX blob_by_uncharging ON blob (uncharged_at) WHERE uncharged_at IS NOT NULL;
ALTER TABLE project DROP COLUMN waiting_bytes;
