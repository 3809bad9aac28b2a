CREATE INDEX reservation_by_project ON reservation (project_id);
CREATE INDEX reservation_by_end ON reservation (expires_at);
CREATE INDEX journal_by_touch ON journal (touched_at);
CREATE INDEX tag_lock_by_end ON tag_lock (expires_at);
