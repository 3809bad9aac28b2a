-- Which nodes there are, as far as their limits have to know before they can ask each other.
CREATE TABLE node (
    name TEXT NOT NULL PRIMARY KEY,
    seen_at INTEGER NOT NULL
) STRICT;
