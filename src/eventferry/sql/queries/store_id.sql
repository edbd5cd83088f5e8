-- which store this is; of a copy of a database, or of a server, the last two differ
SELECT id, pg_postmaster_start_time(), (SELECT oid FROM pg_database WHERE datname = current_database())
  FROM eventferry.store
