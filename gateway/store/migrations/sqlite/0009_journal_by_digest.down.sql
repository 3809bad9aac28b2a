CREATE INDEX journal_by_project ON journal (project_id);
DROP INDEX journal_by_digest;
