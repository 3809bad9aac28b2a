-- What happened, in the order of each node's chain. A record waits, sealed by itself, until it is given its place.
CREATE TABLE audit (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    node TEXT COLLATE "C" NOT NULL,
    -- Its place, from 1 on.
    sequence BIGINT CHECK (sequence > 0),
    at BIGINT NOT NULL,
    kind TEXT COLLATE "C" NOT NULL,
    actor TEXT COLLATE "C" NOT NULL,
    address TEXT COLLATE "C",
    -- Names: a record stays when what it names is gone.
    project TEXT COLLATE "C",
    repository TEXT COLLATE "C",
    reference TEXT COLLATE "C",
    digest TEXT COLLATE "C",
    outcome TEXT COLLATE "C" NOT NULL,
    reason TEXT COLLATE "C",
    request_id TEXT COLLATE "C",
    -- For how many it stands.
    times BIGINT NOT NULL CHECK (times > 0),
    mac TEXT COLLATE "C" NOT NULL
);
CREATE UNIQUE INDEX audit_by_place ON audit (node, sequence) WHERE sequence IS NOT NULL;
CREATE INDEX audit_waiting ON audit (node, at) WHERE sequence IS NULL;
CREATE INDEX audit_by_time ON audit (at);

-- How far each node's chain has got.
CREATE TABLE audit_chain (
    node TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    count BIGINT NOT NULL CHECK (count >= 0),
    link TEXT COLLATE "C" NOT NULL,
    seal TEXT COLLATE "C" NOT NULL,
    -- A signed checkpoint, where the records up to it were forgotten.
    base TEXT COLLATE "C"
);
