-- What a project or a robot may do other than the configuration says: NAME=LIMIT, joined by spaces.
ALTER TABLE project ADD COLUMN limits TEXT NOT NULL DEFAULT '';
ALTER TABLE robot ADD COLUMN limits TEXT NOT NULL DEFAULT '';
