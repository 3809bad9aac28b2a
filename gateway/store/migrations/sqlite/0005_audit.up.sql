-- What happened, in the order of each node's chain. A record waits, sealed by itself, until it is given its place.
CREATE TABLE audit (
    id TEXT NOT NULL PRIMARY KEY,
    node TEXT NOT NULL,
    -- Its place, from 1 on.
    sequence INTEGER CHECK (sequence > 0),
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    actor TEXT NOT NULL,
    address TEXT,
    -- Names: a record stays when what it names is gone.
    project TEXT,
    repository TEXT,
    reference TEXT,
    digest TEXT,
    outcome TEXT NOT NULL,
    reason TEXT,
    request_id TEXT,
    -- For how many it stands.
    times INTEGER NOT NULL CHECK (times > 0),
    mac TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX audit_by_place ON audit (node, sequence) WHERE sequence IS NOT NULL;
CREATE INDEX audit_waiting ON audit (node, at) WHERE sequence IS NULL;
CREATE INDEX audit_by_time ON audit (at);

-- How far each node's chain has got.
CREATE TABLE audit_chain (
    node TEXT NOT NULL PRIMARY KEY,
    count INTEGER NOT NULL CHECK (count >= 0),
    link TEXT NOT NULL,
    seal TEXT NOT NULL,
    -- A signed checkpoint, where the records up to it were forgotten.
    base TEXT
) STRICT, WITHOUT ROWID;
