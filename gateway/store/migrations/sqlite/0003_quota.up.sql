-- What is not charged is not served: since when, until when somebody is taking it away upstream, and whether the upstream
-- would not let it go.
ALTER TABLE blob ADD COLUMN uncharged_at INTEGER;
ALTER TABLE blob ADD COLUMN unlinking_until INTEGER;
ALTER TABLE blob ADD COLUMN kept_upstream INTEGER NOT NULL DEFAULT 0 CHECK (kept_upstream IN (0, 1));
CREATE INDEX blob_by_orphanage ON blob (orphan_since) WHERE orphan_since IS NOT NULL;
CREATE INDEX blob_by_uncharging ON blob (uncharged_at) WHERE uncharged_at IS NOT NULL;
CREATE INDEX manifest_by_digest ON manifest (project_id, digest);

-- What no manifest names begins to wait now.
UPDATE blob SET orphan_since = unixepoch() * 1000
WHERE NOT EXISTS (SELECT 1 FROM manifest_reference AS named WHERE named.project_id = blob.project_id AND named.digest = blob.digest);
UPDATE project SET reserved_bytes = 0, committed_bytes = CAST(
    (SELECT coalesce(sum(size), 0) FROM blob WHERE blob.project_id = project.id)
    + (SELECT coalesce(sum(one.size), 0) FROM (SELECT project_id, max(size) AS size FROM manifest GROUP BY project_id, digest) AS one
       WHERE one.project_id = project.id) AS INTEGER);
DELETE FROM reservation;

-- What the operator decides for all projects. One row.
CREATE TABLE house (
    one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    -- A cap over all projects; without one there is none.
    total_bytes INTEGER CHECK (total_bytes >= 0),
    -- While it is set, nothing is written upstream.
    maintenance_since INTEGER
) STRICT, WITHOUT ROWID;
INSERT INTO house (one) VALUES (1);

-- What was asked for and decided, for ever.
CREATE TABLE quota_request (
    id TEXT NOT NULL PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    bytes INTEGER NOT NULL CHECK (bytes >= 0),
    reason TEXT NOT NULL,
    requested_at INTEGER NOT NULL,
    requested_by TEXT NOT NULL,
    decision TEXT CHECK (decision IN ('approved', 'declined')),
    granted_bytes INTEGER CHECK (granted_bytes >= 0),
    decided_reason TEXT,
    decided_at INTEGER,
    decided_by TEXT,
    CHECK ((decision IS NULL) = (decided_at IS NULL)),
    CHECK ((decision IS NULL) = (decided_by IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX quota_request_by_project ON quota_request (project_id);

-- How far a walk over the upstream has got in a project.
CREATE TABLE walk (
    project_id TEXT NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    purpose TEXT NOT NULL CHECK (purpose IN ('import', 'reconcile')),
    after_repository TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (project_id, purpose)
) STRICT, WITHOUT ROWID;

-- More kinds of steps, who takes them, and the last sign of life of whoever does.
ALTER TABLE journal RENAME TO journal_before;
CREATE TABLE journal (
    id TEXT NOT NULL PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    repository TEXT NOT NULL,
    step TEXT NOT NULL CHECK (step IN ('delete-tag', 'put-blob', 'put-manifest', 'delete-manifest', 'delete-blob')),
    -- A manifest's tags are joined by spaces.
    tag TEXT,
    digest TEXT,
    actor TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    touched_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO journal (id, project_id, repository, step, tag, digest, actor, started_at, touched_at)
SELECT id, project_id, repository, step, tag, digest, '', started_at, started_at FROM journal_before;
DROP TABLE journal_before;
CREATE INDEX journal_by_project ON journal (project_id);
CREATE INDEX journal_by_touch ON journal (touched_at);

-- What a manifest under way names: it is not taken off the account while that is.
CREATE TABLE pin (
    project_id TEXT NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    digest TEXT NOT NULL,
    reservation_id TEXT NOT NULL REFERENCES reservation (id) ON DELETE CASCADE,
    PRIMARY KEY (project_id, digest, reservation_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX pin_by_reservation ON pin (reservation_id);

-- Where an upload goes on upstream, so that it can be given up there.
ALTER TABLE upload ADD COLUMN upstream TEXT;
