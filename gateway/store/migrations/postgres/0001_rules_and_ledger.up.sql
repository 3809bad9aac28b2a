-- Every text column is collated by its bytes: names are compared and sorted as the protocol does, whatever the database's language.
-- Times are milliseconds since 1970 (UTC), sizes are bytes.

-- One row: it counts the changes of the rules, and its lock puts them in a row.
CREATE TABLE rule_generation (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    value BIGINT NOT NULL
);
INSERT INTO rule_generation (one, value) VALUES (1, 1);

CREATE TABLE deployment (
    one BIGINT PRIMARY KEY CHECK (one = 1),
    id TEXT COLLATE "C" NOT NULL
);

CREATE TABLE signing_key (
    kid TEXT COLLATE "C" PRIMARY KEY,
    algorithm TEXT COLLATE "C" NOT NULL CHECK (algorithm IN ('EdDSA', 'ES256')),
    sealed_private BYTEA NOT NULL,
    public_jwk TEXT COLLATE "C" NOT NULL,
    signs_from BIGINT NOT NULL,
    verifies_until BIGINT,
    created_at BIGINT NOT NULL
);

CREATE TABLE project (
    id TEXT COLLATE "C" PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL UNIQUE,
    upstream_prefix TEXT COLLATE "C" NOT NULL UNIQUE,
    public BIGINT NOT NULL CHECK (public IN (0, 1)),
    created_at BIGINT NOT NULL,
    deleted_at BIGINT,
    -- The ledger's account; without a quota it is unlimited.
    quota_bytes BIGINT CHECK (quota_bytes >= 0),
    soft_percent BIGINT CHECK (soft_percent BETWEEN 1 AND 100),
    committed_bytes BIGINT NOT NULL DEFAULT 0 CHECK (committed_bytes >= 0),
    reserved_bytes BIGINT NOT NULL DEFAULT 0 CHECK (reserved_bytes >= 0)
);

CREATE TABLE robot (
    id TEXT COLLATE "C" PRIMARY KEY,
    project_id TEXT COLLATE "C" NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    name TEXT COLLATE "C" NOT NULL,
    role TEXT COLLATE "C" CHECK (role IN ('pull', 'push', 'admin')),
    -- CIDRs joined by commas; empty is anywhere.
    source_networks TEXT COLLATE "C" NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    disabled_at BIGINT,
    UNIQUE (project_id, name)
);

CREATE TABLE robot_secret (
    id TEXT COLLATE "C" PRIMARY KEY,
    project_id TEXT COLLATE "C" NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    robot_id TEXT COLLATE "C" NOT NULL REFERENCES robot (id) ON DELETE CASCADE,
    -- 0 is the newest.
    position BIGINT NOT NULL,
    hash BYTEA NOT NULL CHECK (length(hash) = 32),
    created_at BIGINT NOT NULL,
    expires_at BIGINT,
    last_used_at BIGINT
);
CREATE INDEX robot_secret_by_robot ON robot_secret (robot_id);
CREATE INDEX robot_secret_by_project ON robot_secret (project_id);

-- The table is not called grant, because that is a word of SQL.
CREATE TABLE robot_grant (
    id TEXT COLLATE "C" PRIMARY KEY,
    project_id TEXT COLLATE "C" NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    robot_id TEXT COLLATE "C" NOT NULL REFERENCES robot (id) ON DELETE CASCADE,
    position BIGINT NOT NULL,
    -- The project whose repositories the pattern names, and its consent.
    target_project_id TEXT COLLATE "C" NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    pattern TEXT COLLATE "C" NOT NULL,
    actions TEXT COLLATE "C" NOT NULL,
    consent TEXT COLLATE "C" NOT NULL CHECK (consent IN ('pending', 'accepted', 'refused')),
    decided_at BIGINT
);
CREATE INDEX robot_grant_by_robot ON robot_grant (robot_id);
CREATE INDEX robot_grant_by_project ON robot_grant (project_id);
CREATE INDEX robot_grant_by_target ON robot_grant (target_project_id);

CREATE TABLE scope_set (
    id TEXT COLLATE "C" PRIMARY KEY,
    contents TEXT COLLATE "C" NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX scope_set_by_end ON scope_set (expires_at);

CREATE TABLE upload (
    id TEXT COLLATE "C" PRIMARY KEY,
    -- The project that is written to; the robot may be another project's.
    project_id TEXT COLLATE "C" NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    repository TEXT COLLATE "C" NOT NULL,
    robot_id TEXT COLLATE "C" NOT NULL REFERENCES robot (id) ON DELETE CASCADE,
    started_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX upload_by_project ON upload (project_id);
CREATE INDEX upload_by_robot ON upload (robot_id);
CREATE INDEX upload_by_end ON upload (expires_at);

-- What counts against a project, once for each digest.
CREATE TABLE blob (
    project_id TEXT COLLATE "C" NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    digest TEXT COLLATE "C" NOT NULL,
    size BIGINT NOT NULL CHECK (size >= 0),
    -- Since when no manifest names it; kept by the quota's rules, which are not enforced yet.
    orphan_since BIGINT,
    PRIMARY KEY (project_id, digest)
);

-- Which repository holds which blob.
CREATE TABLE link (
    project_id TEXT COLLATE "C" NOT NULL,
    repository TEXT COLLATE "C" NOT NULL,
    digest TEXT COLLATE "C" NOT NULL,
    linked_at BIGINT NOT NULL,
    PRIMARY KEY (project_id, repository, digest),
    FOREIGN KEY (project_id, digest) REFERENCES blob (project_id, digest) ON DELETE CASCADE
);
CREATE INDEX link_by_digest ON link (project_id, digest);

CREATE TABLE manifest (
    project_id TEXT COLLATE "C" NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    repository TEXT COLLATE "C" NOT NULL,
    digest TEXT COLLATE "C" NOT NULL,
    media_type TEXT COLLATE "C" NOT NULL,
    artifact_type TEXT COLLATE "C",
    size BIGINT NOT NULL CHECK (size >= 0),
    subject TEXT COLLATE "C",
    -- A JSON list of [key, value], in the document's order.
    annotations TEXT COLLATE "C" NOT NULL,
    pushed_at BIGINT NOT NULL,
    pushed_by TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (project_id, repository, digest)
);
CREATE INDEX manifest_by_subject ON manifest (project_id, repository, subject) WHERE subject IS NOT NULL;

-- What a manifest names, at the sizes that it claims.
CREATE TABLE manifest_reference (
    project_id TEXT COLLATE "C" NOT NULL,
    repository TEXT COLLATE "C" NOT NULL,
    manifest_digest TEXT COLLATE "C" NOT NULL,
    -- In the order config, layers, children.
    position BIGINT NOT NULL,
    kind TEXT COLLATE "C" NOT NULL CHECK (kind IN ('config', 'layer', 'foreign-layer', 'child')),
    digest TEXT COLLATE "C" NOT NULL,
    media_type TEXT COLLATE "C" NOT NULL,
    size BIGINT NOT NULL CHECK (size >= 0),
    PRIMARY KEY (project_id, repository, manifest_digest, position),
    FOREIGN KEY (project_id, repository, manifest_digest)
        REFERENCES manifest (project_id, repository, digest) ON DELETE CASCADE
);
CREATE INDEX manifest_reference_by_digest ON manifest_reference (project_id, digest);

CREATE TABLE tag (
    project_id TEXT COLLATE "C" NOT NULL,
    repository TEXT COLLATE "C" NOT NULL,
    tag TEXT COLLATE "C" NOT NULL,
    digest TEXT COLLATE "C" NOT NULL,
    pushed_at BIGINT NOT NULL,
    pushed_by TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (project_id, repository, tag),
    FOREIGN KEY (project_id, repository, digest)
        REFERENCES manifest (project_id, repository, digest) ON DELETE CASCADE
);
CREATE INDEX tag_by_digest ON tag (project_id, repository, digest);

-- Bytes that an upload or an operation may still bring.
CREATE TABLE reservation (
    id TEXT COLLATE "C" PRIMARY KEY,
    project_id TEXT COLLATE "C" NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    robot_id TEXT COLLATE "C",
    bytes BIGINT NOT NULL CHECK (bytes >= 0),
    purpose TEXT COLLATE "C" NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX reservation_by_project ON reservation (project_id);
CREATE INDEX reservation_by_end ON reservation (expires_at);

CREATE TABLE tag_lock (
    project_id TEXT COLLATE "C" NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    repository TEXT COLLATE "C" NOT NULL,
    tag TEXT COLLATE "C" NOT NULL,
    owner TEXT COLLATE "C" NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (project_id, repository, tag)
);
CREATE INDEX tag_lock_by_end ON tag_lock (expires_at);

-- Writes to the upstream in several steps; a row is struck out after the last.
CREATE TABLE journal (
    id TEXT COLLATE "C" PRIMARY KEY,
    project_id TEXT COLLATE "C" NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    repository TEXT COLLATE "C" NOT NULL,
    step TEXT COLLATE "C" NOT NULL CHECK (step IN ('delete-tag')),
    tag TEXT COLLATE "C",
    digest TEXT COLLATE "C",
    started_at BIGINT NOT NULL
);
CREATE INDEX journal_by_project ON journal (project_id);
CREATE INDEX journal_by_start ON journal (started_at);
