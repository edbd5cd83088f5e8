-- The versions of the service's code that have run lately, in the order in which they first did: a
-- version need not be a number. One that nobody has run for a day is forgotten, so that after going
-- back to it, it counts as the newest.
CREATE TABLE eventferry.versions (
    version  text        PRIMARY KEY,
    first_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
