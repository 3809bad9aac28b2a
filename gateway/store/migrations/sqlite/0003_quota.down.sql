-- What a crash cut off in a step that the older version does not know is forgotten with it: run `portcullis reconcile` after
-- the next upgrade.
ALTER TABLE journal RENAME TO journal_after;
CREATE TABLE journal (
    id TEXT NOT NULL PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    repository TEXT NOT NULL,
    step TEXT NOT NULL CHECK (step IN ('delete-tag')),
    tag TEXT,
    digest TEXT,
    started_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO journal (id, project_id, repository, step, tag, digest, started_at)
SELECT id, project_id, repository, step, tag, digest, started_at FROM journal_after WHERE step = 'delete-tag';
DROP TABLE journal_after;
CREATE INDEX journal_by_project ON journal (project_id);
CREATE INDEX journal_by_start ON journal (started_at);
ALTER TABLE upload DROP COLUMN upstream;
DROP TABLE pin;
DROP TABLE walk;
DROP TABLE quota_request;
DROP TABLE house;
DROP INDEX manifest_by_digest;
DROP INDEX blob_by_uncharging;
DROP INDEX blob_by_orphanage;
-- Where the gateway keeps repositories apart, the older version serves what is linked: what is not charged loses its links.
-- Where the upstream does, it serves what is there: let the sweeper take away what is not charged (quota.unlink_grace_s) before.
DELETE FROM link WHERE EXISTS (SELECT 1 FROM blob WHERE blob.project_id = link.project_id AND blob.digest = link.digest AND blob.uncharged_at IS NOT NULL);
DELETE FROM blob WHERE uncharged_at IS NOT NULL;
UPDATE blob SET orphan_since = NULL;
ALTER TABLE blob DROP COLUMN kept_upstream;
ALTER TABLE blob DROP COLUMN unlinking_until;
ALTER TABLE blob DROP COLUMN uncharged_at;
