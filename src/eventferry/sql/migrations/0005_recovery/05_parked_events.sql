-- Events that a projection has set aside: one that failed, and the later ones of its entity, which
-- wait behind it (their error is NULL). The events themselves stay in their streams.
CREATE TABLE eventferry.parked_events (
    projection text        NOT NULL,
    stream     text        NOT NULL,
    position   bigint      NOT NULL,
    event_id   uuid        NOT NULL,
    event_type text        NOT NULL,
    entity_id  text,
    attempts   integer     NOT NULL DEFAULT 0,
    error      text,
    traceback  text,
    parked_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (projection, position, stream)
);
CREATE INDEX parked_entities ON eventferry.parked_events (projection, stream, entity_id);
