-- The processes that run projections of this service, as each last said of itself. One that ends takes
-- its row along; one that dies leaves it, and it grows old.
CREATE TABLE eventferry.runners (
    id          uuid        PRIMARY KEY DEFAULT eventferry.uuid7(),
    host        text        NOT NULL,
    pid         integer     NOT NULL,
    command     text        NOT NULL,       -- worker, start, …
    projections text[]      NOT NULL,       -- which ones it runs, whenever they have work
    version     text        NOT NULL,       -- of the service's code
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    asked_at    timestamptz                 -- to end: there is new code to run
);
