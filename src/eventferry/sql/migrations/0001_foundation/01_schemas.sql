-- eventferry: our own objects. streams: one table a stream, in a schema of their own,
-- so that no stream's name collides with a table of ours.
CREATE SCHEMA IF NOT EXISTS eventferry;
CREATE SCHEMA IF NOT EXISTS streams;
