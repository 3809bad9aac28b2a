-- Whether a push and a deletion of one thing are under way side by side is asked at the end of each: by the thing, so that it
-- does not cost what else is under way in the project.
-- Behind a long reader, a dump for one, this fails instead of holding up all that comes after it.
SET LOCAL lock_timeout = '5s';
DROP INDEX journal_by_project;
CREATE INDEX journal_by_digest ON journal (project_id, digest);
