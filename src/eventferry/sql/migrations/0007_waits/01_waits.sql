-- Who waits, in the shared store, until a projection of another service has dealt with events: a row a
-- stream. A worker of that service answers. Nothing else relies on it, so it need not survive a crash.
CREATE UNLOGGED TABLE eventferry.waits (
    id         uuid        NOT NULL,
    service    text        NOT NULL,        -- whose projection it is
    projection text        NOT NULL,
    stream     text        NOT NULL,        -- of the shared store
    position   bigint      NOT NULL,        -- of the last of the events
    events     uuid[]      NOT NULL,
    asked_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    until      timestamptz NOT NULL,        -- nobody waits any longer than this
    answer     text CHECK (answer IN ('handled', 'parked')),
    PRIMARY KEY (id, stream)
);
