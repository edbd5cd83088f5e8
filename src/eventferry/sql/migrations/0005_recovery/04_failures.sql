-- The last failures of each projection, one row an attempt; older ones are deleted as new ones come.
CREATE TABLE eventferry.failures (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    projection text        NOT NULL,
    attempt    integer     NOT NULL,
    stream     text,
    position   bigint,
    event_id   uuid,
    event_type text,
    entity_id  text,
    error_type text        NOT NULL,
    error      text        NOT NULL,
    traceback  text        NOT NULL,
    gave_up    boolean     NOT NULL,        -- whether this was the last attempt
    failed_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX failures_of_projection ON eventferry.failures (projection, id);
