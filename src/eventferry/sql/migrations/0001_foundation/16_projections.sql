-- What is known of the service's projections; a local store's table. `running` is not kept here:
-- it is derived, so that a dead runner does not look alive.
CREATE TABLE eventferry.projections (
    name           text PRIMARY KEY,
    kind           text        NOT NULL CHECK (kind IN ('producing', 'consuming')),
    environment    text        NOT NULL CHECK (environment IN ('local', 'shared')),
    streams        text[]      NOT NULL,
    background     boolean     NOT NULL,
    queue          text        NOT NULL,
    state          text        NOT NULL DEFAULT 'idle' CHECK (state IN ('idle', 'failed')),
    attempts       integer     NOT NULL DEFAULT 0,
    error          text,
    traceback      text,
    failing_stream text,
    failing_position bigint,
    failing_event_id uuid,
    failing_event_type text,
    failed_at      timestamptz,
    runner         text,                   -- host:pid of the last long run
    heartbeat_at   timestamptz,
    registered_at  timestamptz NOT NULL DEFAULT now()
);
