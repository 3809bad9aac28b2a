-- What a project is not charged with any more and the upstream still has: until it is taken away it takes up storage.
ALTER TABLE project ADD COLUMN waiting_bytes BIGINT NOT NULL DEFAULT 0 CHECK (waiting_bytes >= 0);
UPDATE project SET waiting_bytes = CAST(
    (SELECT coalesce(sum(size), 0) FROM blob
     WHERE blob.project_id = project.id AND uncharged_at IS NOT NULL AND kept_upstream = 0) AS BIGINT);

-- Projects take turns, each with its oldest first.
DROP INDEX blob_by_orphanage;
DROP INDEX blob_by_uncharging;
CREATE INDEX blob_by_orphanage ON blob (project_id, orphan_since) WHERE orphan_since IS NOT NULL;
CREATE INDEX blob_by_uncharging ON blob (project_id, uncharged_at) WHERE uncharged_at IS NOT NULL AND kept_upstream = 0;

-- Uploads whose robot or project was deleted under them: nobody goes on with them, and the upstream has bytes of them.
CREATE TABLE abandoned_upload (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    project_id TEXT COLLATE "C" NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    repository TEXT COLLATE "C" NOT NULL,
    robot_id TEXT COLLATE "C" NOT NULL,
    started_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    upstream TEXT COLLATE "C"
);
CREATE INDEX abandoned_upload_by_project ON abandoned_upload (project_id);

-- Which node is at work at a request of an upload, and until when that counts without a sign of life.
ALTER TABLE reservation ADD COLUMN worker TEXT COLLATE "C";
ALTER TABLE reservation ADD COLUMN working_until BIGINT;
