-- What the projections of each service last said of themselves, in the shared store: from it, the map
-- of all services is drawn. Nothing else relies on it.
CREATE TABLE eventferry.reports (
    service       text        NOT NULL,
    projection    text        NOT NULL,
    kind          text        NOT NULL,
    environment   text        NOT NULL,
    streams       text[]      NOT NULL,
    shared_stream text,                     -- producing: where to
    mode          text        NOT NULL,
    state         text        NOT NULL,
    lag           bigint,                   -- events; over 100,000 means at least that many
    behind_s      float8,                   -- how old the first of them was
    error         text,
    version       text        NOT NULL,     -- of the code that says so
    reported_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (service, projection)
);
