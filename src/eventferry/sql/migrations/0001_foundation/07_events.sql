-- The parent of all stream tables: for reading across streams. Nobody inserts here.
CREATE TABLE eventferry.events (
    position    bigint      NOT NULL DEFAULT nextval('eventferry.positions'),
    occurred_at timestamptz NOT NULL DEFAULT statement_timestamp(),
    recorded_at timestamptz NOT NULL DEFAULT statement_timestamp(),  -- a volatile default would make COPY insert row by row
    version     integer,
    stream      smallint    NOT NULL,
    id          uuid        NOT NULL DEFAULT eventferry.uuid7(),
    type        text        NOT NULL,
    source      text        NOT NULL DEFAULT current_user,
    entity_id   text,
    data        json        NOT NULL DEFAULT '{}',
    metadata    json        NOT NULL DEFAULT '{}',
    CONSTRAINT events_type      CHECK (length(type) BETWEEN 1 AND 255),
    CONSTRAINT events_source    CHECK (length(source) BETWEEN 1 AND 255),
    CONSTRAINT events_entity_id CHECK (length(entity_id) BETWEEN 1 AND 255),
    CONSTRAINT events_version   CHECK (version IS NULL OR version > 0 AND entity_id IS NOT NULL),
    -- what a client's clock can hold, in any time zone: neither infinity nor the year 10,000
    CONSTRAINT events_occurred_at CHECK (occurred_at BETWEEN '0001-01-03Z' AND '9999-12-29Z'),
    CONSTRAINT events_recorded_at CHECK (recorded_at BETWEEN '0001-01-03Z' AND '9999-12-29Z'),
    -- in memory, before any compression: 16 MiB and 1 MiB
    CONSTRAINT events_data_size      CHECK (pg_column_size(data) <= 16777216),
    CONSTRAINT events_metadata_size  CHECK (pg_column_size(metadata) <= 1048576),
    CONSTRAINT events_data_object     CHECK (json_typeof(data) = 'object'),
    CONSTRAINT events_metadata_object CHECK (json_typeof(metadata) = 'object')
) PARTITION BY LIST (stream);
