-- For who reads all of it, the latest first.
CREATE INDEX audit_in_time ON eventferry.audit (at, id);
