-- The trail goes with it: keep what `portcullis audit export` writes.
DROP TABLE audit_chain;
DROP TABLE audit;
