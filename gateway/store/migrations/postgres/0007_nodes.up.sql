-- Which nodes there are, as far as their limits have to know before they can ask each other.
CREATE TABLE node (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    seen_at BIGINT NOT NULL
);
