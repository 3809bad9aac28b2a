-- A policy's component, kept here so that neither a dead upstream nor a deleted artifact takes it away.
CREATE TABLE policy_component (
    digest TEXT PRIMARY KEY,
    bytes BLOB NOT NULL
) STRICT;

CREATE TABLE policy_attachment (
    id TEXT PRIMARY KEY,
    -- The project's id, or empty for the platform's.
    owner TEXT NOT NULL,
    project_id TEXT REFERENCES project (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    digest TEXT NOT NULL REFERENCES policy_component (digest),
    -- Where the component came from, for people.
    source TEXT NOT NULL,
    -- JSON.
    settings TEXT NOT NULL,
    mode TEXT NOT NULL CHECK (mode IN ('enforce', 'monitor')),
    on_error TEXT NOT NULL CHECK (on_error IN ('deny', 'allow')),
    position INTEGER NOT NULL,
    -- How many calls an instance serves, and for how many seconds; where both are missing every call gets a fresh one.
    reuse_calls INTEGER CHECK (reuse_calls > 0),
    reuse_s INTEGER CHECK (reuse_s > 0),
    attached_at INTEGER NOT NULL,
    attached_by TEXT NOT NULL,
    CHECK (owner = coalesce(project_id, '')),
    CHECK ((reuse_calls IS NULL) = (reuse_s IS NULL)),
    UNIQUE (owner, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX policy_attachment_by_project ON policy_attachment (project_id);
CREATE INDEX policy_attachment_by_digest ON policy_attachment (digest);
