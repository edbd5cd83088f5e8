-- The databases that the services talk through, and that their tests use. The image runs it when it
-- makes the data; it may be run again by hand, and adds what is missing.
--
-- psql's \gexec runs what the query answers: CREATE DATABASE has no IF NOT EXISTS.
SELECT format('CREATE DATABASE %I', name)
FROM unnest(ARRAY['event-store', 'event-store_test']) AS name
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = name)
\gexec
