-- What is not charged is not served: since when, until when somebody is taking it away upstream, and whether the upstream
-- would not let it go.
ALTER TABLE blob ADD COLUMN uncharged_at BIGINT;
ALTER TABLE blob ADD COLUMN unlinking_until BIGINT;
ALTER TABLE blob ADD COLUMN kept_upstream BIGINT NOT NULL DEFAULT 0 CHECK (kept_upstream IN (0, 1));
CREATE INDEX blob_by_orphanage ON blob (orphan_since) WHERE orphan_since IS NOT NULL;
CREATE INDEX blob_by_uncharging ON blob (uncharged_at) WHERE uncharged_at IS NOT NULL;
CREATE INDEX manifest_by_digest ON manifest (project_id, digest);

-- What no manifest names begins to wait now.
UPDATE blob SET orphan_since = CAST(EXTRACT(EPOCH FROM now()) * 1000 AS BIGINT)
WHERE NOT EXISTS (SELECT 1 FROM manifest_reference AS named WHERE named.project_id = blob.project_id AND named.digest = blob.digest);
UPDATE project SET reserved_bytes = 0, committed_bytes = CAST(
    (SELECT coalesce(sum(size), 0) FROM blob WHERE blob.project_id = project.id)
    + (SELECT coalesce(sum(one.size), 0) FROM (SELECT project_id, max(size) AS size FROM manifest GROUP BY project_id, digest) AS one
       WHERE one.project_id = project.id) AS BIGINT);
DELETE FROM reservation;

-- What the operator decides for all projects. One row.
CREATE TABLE house (
    one BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    -- A cap over all projects; without one there is none.
    total_bytes BIGINT CHECK (total_bytes >= 0),
    -- While it is set, nothing is written upstream.
    maintenance_since BIGINT
);
INSERT INTO house (one) VALUES (1);

-- What was asked for and decided, for ever.
CREATE TABLE quota_request (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    project_id TEXT COLLATE "C" NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    bytes BIGINT NOT NULL CHECK (bytes >= 0),
    reason TEXT COLLATE "C" NOT NULL,
    requested_at BIGINT NOT NULL,
    requested_by TEXT COLLATE "C" NOT NULL,
    decision TEXT COLLATE "C" CHECK (decision IN ('approved', 'declined')),
    granted_bytes BIGINT CHECK (granted_bytes >= 0),
    decided_reason TEXT COLLATE "C",
    decided_at BIGINT,
    decided_by TEXT COLLATE "C",
    CHECK ((decision IS NULL) = (decided_at IS NULL)),
    CHECK ((decision IS NULL) = (decided_by IS NULL))
);
CREATE INDEX quota_request_by_project ON quota_request (project_id);

-- How far a walk over the upstream has got in a project.
CREATE TABLE walk (
    project_id TEXT COLLATE "C" NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    purpose TEXT COLLATE "C" NOT NULL CHECK (purpose IN ('import', 'reconcile')),
    after_repository TEXT COLLATE "C" NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (project_id, purpose)
);

-- More kinds of steps, who takes them, and the last sign of life of whoever does.
ALTER TABLE journal RENAME TO journal_before;
CREATE TABLE journal (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    project_id TEXT COLLATE "C" NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    repository TEXT COLLATE "C" NOT NULL,
    step TEXT COLLATE "C" NOT NULL CHECK (step IN ('delete-tag', 'put-blob', 'put-manifest', 'delete-manifest', 'delete-blob')),
    -- A manifest's tags are joined by spaces.
    tag TEXT COLLATE "C",
    digest TEXT COLLATE "C",
    actor TEXT COLLATE "C" NOT NULL,
    started_at BIGINT NOT NULL,
    touched_at BIGINT NOT NULL
);
INSERT INTO journal (id, project_id, repository, step, tag, digest, actor, started_at, touched_at)
SELECT id, project_id, repository, step, tag, digest, '', started_at, started_at FROM journal_before;
DROP TABLE journal_before;
CREATE INDEX journal_by_project ON journal (project_id);
CREATE INDEX journal_by_touch ON journal (touched_at);

-- What a manifest under way names: it is not taken off the account while that is.
CREATE TABLE pin (
    project_id TEXT COLLATE "C" NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    digest TEXT COLLATE "C" NOT NULL,
    reservation_id TEXT COLLATE "C" NOT NULL REFERENCES reservation (id) ON DELETE CASCADE,
    PRIMARY KEY (project_id, digest, reservation_id)
);
CREATE INDEX pin_by_reservation ON pin (reservation_id);

-- Where an upload goes on upstream, so that it can be given up there.
ALTER TABLE upload ADD COLUMN upstream TEXT COLLATE "C";
