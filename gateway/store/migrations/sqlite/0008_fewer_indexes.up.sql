-- These tables hold what is under way: each push writes to them and takes it away again, and to read all of them is quick.
DROP INDEX reservation_by_project;
DROP INDEX reservation_by_end;
DROP INDEX journal_by_project;
DROP INDEX journal_by_touch;
DROP INDEX tag_lock_by_end;
