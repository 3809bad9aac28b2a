-- A policy's component, kept here so that neither a dead upstream nor a deleted artifact takes it away.
CREATE TABLE policy_component (
    digest TEXT COLLATE "C" PRIMARY KEY,
    bytes BYTEA NOT NULL
);

CREATE TABLE policy_attachment (
    id TEXT COLLATE "C" PRIMARY KEY,
    -- The project's id, or empty for the platform's.
    owner TEXT COLLATE "C" NOT NULL,
    project_id TEXT COLLATE "C" REFERENCES project (id) ON DELETE CASCADE,
    name TEXT COLLATE "C" NOT NULL,
    digest TEXT COLLATE "C" NOT NULL REFERENCES policy_component (digest),
    -- Where the component came from, for people.
    source TEXT COLLATE "C" NOT NULL,
    -- JSON.
    settings TEXT COLLATE "C" NOT NULL,
    mode TEXT COLLATE "C" NOT NULL CHECK (mode IN ('enforce', 'monitor')),
    on_error TEXT COLLATE "C" NOT NULL CHECK (on_error IN ('deny', 'allow')),
    position BIGINT NOT NULL,
    -- How many calls an instance serves, and for how many seconds; where both are missing every call gets a fresh one.
    reuse_calls BIGINT CHECK (reuse_calls > 0),
    reuse_s BIGINT CHECK (reuse_s > 0),
    attached_at BIGINT NOT NULL,
    attached_by TEXT COLLATE "C" NOT NULL,
    CHECK (owner = coalesce(project_id, '')),
    CHECK ((reuse_calls IS NULL) = (reuse_s IS NULL)),
    UNIQUE (owner, name)
);
CREATE INDEX policy_attachment_by_project ON policy_attachment (project_id);
CREATE INDEX policy_attachment_by_digest ON policy_attachment (digest);
