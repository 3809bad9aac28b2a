-- Times are milliseconds since 1970 (UTC), sizes are bytes.

-- One row: it counts the changes of the rules, and its lock puts them in a row.
CREATE TABLE rule_generation (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    value INTEGER NOT NULL
) STRICT;
INSERT INTO rule_generation (one, value) VALUES (1, 1);

CREATE TABLE deployment (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    id TEXT NOT NULL
) STRICT;

CREATE TABLE signing_key (
    kid TEXT PRIMARY KEY,
    algorithm TEXT NOT NULL CHECK (algorithm IN ('EdDSA', 'ES256')),
    sealed_private BLOB NOT NULL,
    public_jwk TEXT NOT NULL,
    signs_from INTEGER NOT NULL,
    verifies_until INTEGER,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE project (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    upstream_prefix TEXT NOT NULL UNIQUE,
    public INTEGER NOT NULL CHECK (public IN (0, 1)),
    created_at INTEGER NOT NULL,
    deleted_at INTEGER,
    -- The ledger's account; without a quota it is unlimited.
    quota_bytes INTEGER CHECK (quota_bytes >= 0),
    soft_percent INTEGER CHECK (soft_percent BETWEEN 1 AND 100),
    committed_bytes INTEGER NOT NULL DEFAULT 0 CHECK (committed_bytes >= 0),
    reserved_bytes INTEGER NOT NULL DEFAULT 0 CHECK (reserved_bytes >= 0)
) STRICT, WITHOUT ROWID;

CREATE TABLE robot (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    role TEXT CHECK (role IN ('pull', 'push', 'admin')),
    -- CIDRs joined by commas; empty is anywhere.
    source_networks TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    disabled_at INTEGER,
    UNIQUE (project_id, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE robot_secret (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    robot_id TEXT NOT NULL REFERENCES robot (id) ON DELETE CASCADE,
    -- 0 is the newest.
    position INTEGER NOT NULL,
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    last_used_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX robot_secret_by_robot ON robot_secret (robot_id);
CREATE INDEX robot_secret_by_project ON robot_secret (project_id);

-- The table is not called grant, because that is a word of SQL.
CREATE TABLE robot_grant (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    robot_id TEXT NOT NULL REFERENCES robot (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    -- The project whose repositories the pattern names, and its consent.
    target_project_id TEXT NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    pattern TEXT NOT NULL,
    actions TEXT NOT NULL,
    consent TEXT NOT NULL CHECK (consent IN ('pending', 'accepted', 'refused')),
    decided_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX robot_grant_by_robot ON robot_grant (robot_id);
CREATE INDEX robot_grant_by_project ON robot_grant (project_id);
CREATE INDEX robot_grant_by_target ON robot_grant (target_project_id);

CREATE TABLE scope_set (
    id TEXT PRIMARY KEY,
    contents TEXT NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX scope_set_by_end ON scope_set (expires_at);

CREATE TABLE upload (
    id TEXT PRIMARY KEY,
    -- The project that is written to; the robot may be another project's.
    project_id TEXT NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    repository TEXT NOT NULL,
    robot_id TEXT NOT NULL REFERENCES robot (id) ON DELETE CASCADE,
    started_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX upload_by_project ON upload (project_id);
CREATE INDEX upload_by_robot ON upload (robot_id);
CREATE INDEX upload_by_end ON upload (expires_at);

-- What counts against a project, once for each digest.
CREATE TABLE blob (
    project_id TEXT NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    digest TEXT NOT NULL,
    size INTEGER NOT NULL CHECK (size >= 0),
    -- Since when no manifest names it; kept by the quota's rules, which are not enforced yet.
    orphan_since INTEGER,
    PRIMARY KEY (project_id, digest)
) STRICT, WITHOUT ROWID;

-- Which repository holds which blob.
CREATE TABLE link (
    project_id TEXT NOT NULL,
    repository TEXT NOT NULL,
    digest TEXT NOT NULL,
    linked_at INTEGER NOT NULL,
    PRIMARY KEY (project_id, repository, digest),
    FOREIGN KEY (project_id, digest) REFERENCES blob (project_id, digest) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX link_by_digest ON link (project_id, digest);

CREATE TABLE manifest (
    project_id TEXT NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    repository TEXT NOT NULL,
    digest TEXT NOT NULL,
    media_type TEXT NOT NULL,
    artifact_type TEXT,
    size INTEGER NOT NULL CHECK (size >= 0),
    subject TEXT,
    -- A JSON list of [key, value], in the document's order.
    annotations TEXT NOT NULL,
    pushed_at INTEGER NOT NULL,
    pushed_by TEXT NOT NULL,
    PRIMARY KEY (project_id, repository, digest)
) STRICT;
CREATE INDEX manifest_by_subject ON manifest (project_id, repository, subject) WHERE subject IS NOT NULL;

-- What a manifest names, at the sizes that it claims.
CREATE TABLE manifest_reference (
    project_id TEXT NOT NULL,
    repository TEXT NOT NULL,
    manifest_digest TEXT NOT NULL,
    -- In the order config, layers, children.
    position INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('config', 'layer', 'foreign-layer', 'child')),
    digest TEXT NOT NULL,
    media_type TEXT NOT NULL,
    size INTEGER NOT NULL CHECK (size >= 0),
    PRIMARY KEY (project_id, repository, manifest_digest, position),
    FOREIGN KEY (project_id, repository, manifest_digest)
        REFERENCES manifest (project_id, repository, digest) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX manifest_reference_by_digest ON manifest_reference (project_id, digest);

CREATE TABLE tag (
    project_id TEXT NOT NULL,
    repository TEXT NOT NULL,
    tag TEXT NOT NULL,
    digest TEXT NOT NULL,
    pushed_at INTEGER NOT NULL,
    pushed_by TEXT NOT NULL,
    PRIMARY KEY (project_id, repository, tag),
    FOREIGN KEY (project_id, repository, digest)
        REFERENCES manifest (project_id, repository, digest) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX tag_by_digest ON tag (project_id, repository, digest);

-- Bytes that an upload or an operation may still bring.
CREATE TABLE reservation (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    robot_id TEXT,
    bytes INTEGER NOT NULL CHECK (bytes >= 0),
    purpose TEXT NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX reservation_by_project ON reservation (project_id);
CREATE INDEX reservation_by_end ON reservation (expires_at);

CREATE TABLE tag_lock (
    project_id TEXT NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    repository TEXT NOT NULL,
    tag TEXT NOT NULL,
    owner TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (project_id, repository, tag)
) STRICT, WITHOUT ROWID;
CREATE INDEX tag_lock_by_end ON tag_lock (expires_at);

-- Writes to the upstream in several steps; a row is struck out after the last.
CREATE TABLE journal (
    id TEXT PRIMARY KEY,
    project_id TEXT NOT NULL REFERENCES project (id) ON DELETE CASCADE,
    repository TEXT NOT NULL,
    step TEXT NOT NULL CHECK (step IN ('delete-tag')),
    tag TEXT,
    digest TEXT,
    started_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX journal_by_project ON journal (project_id);
CREATE INDEX journal_by_start ON journal (started_at);
