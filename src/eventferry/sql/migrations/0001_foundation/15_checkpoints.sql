-- How far a projection is, one row a stream that it reads; in the store that its effect goes to,
-- so that both commit together. The row's lock is the mutual exclusion of its runners.
CREATE TABLE eventferry.checkpoints (
    service     text        NOT NULL,
    projection  text        NOT NULL,
    stream      text        NOT NULL,
    store       uuid        NOT NULL,      -- the identity of the store read from
    incarnation uuid        NOT NULL,      -- of the stream
    position    bigint      NOT NULL,      -- of the last event dealt with; 0: none
    event_id    uuid,                      -- its id: who stands there now must be it
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (service, projection, stream, store)
) WITH (fillfactor = 50);                  -- room for HOT updates: the row changes with every batch
