-- These tables hold what is under way: each push writes to them and takes it away again. What looked these up now and then, the
-- sweeper for one, can as well read all of them.
DROP INDEX reservation_by_project;
DROP INDEX reservation_by_end;
DROP INDEX journal_by_touch;
DROP INDEX tag_lock_by_end;
