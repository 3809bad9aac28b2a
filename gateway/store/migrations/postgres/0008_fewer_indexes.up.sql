-- These tables hold what is under way: each push writes to them and takes it away again. What looked these up now and then, the
-- sweeper for one, can as well read all of them.
-- Behind a long reader, a dump for one, this fails instead of holding up all that comes after it.
SET LOCAL lock_timeout = '5s';
DROP INDEX reservation_by_project;
DROP INDEX reservation_by_end;
DROP INDEX journal_by_touch;
DROP INDEX tag_lock_by_end;
