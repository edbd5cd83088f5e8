-- Name: eventferry; Type: SCHEMA; Schema: -; Owner: -

CREATE SCHEMA eventferry;

-- Name: streams; Type: SCHEMA; Schema: -; Owner: -

CREATE SCHEMA streams;

-- Name: batch_counter(text); Type: FUNCTION; Schema: eventferry; Owner: -

CREATE FUNCTION eventferry.batch_counter(projection text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ('eventferry.batches_'::text || md5(projection));

-- Name: batch_count(text); Type: FUNCTION; Schema: eventferry; Owner: -

CREATE FUNCTION eventferry.batch_count(projection text) RETURNS bigint
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    RETURN COALESCE(pg_sequence_last_value(to_regclass(eventferry.batch_counter(projection))), (0)::bigint);

-- Name: batch_deaths(bigint, bigint); Type: FUNCTION; Schema: eventferry; Owner: -

CREATE FUNCTION eventferry.batch_deaths(count bigint, begun bigint) RETURNS bigint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN (((count / 1000) - (count % (1000)::bigint)) = begun) THEN (count % (1000)::bigint) ELSE (0)::bigint END;

-- Name: batches_begun(text); Type: FUNCTION; Schema: eventferry; Owner: -

CREATE FUNCTION eventferry.batches_begun(projection text) RETURNS bigint
    LANGUAGE sql
    RETURN (eventferry.batch_count(projection) / 1000);

-- Name: begin_batch(text, bigint); Type: FUNCTION; Schema: eventferry; Owner: -

CREATE FUNCTION eventferry.begin_batch(projection text, begun bigint) RETURNS bigint
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    BEGIN ATOMIC
 SELECT (setval(to_regclass(eventferry.batch_counter(begin_batch.projection)), (((((begin_batch.begun + counted.deaths) + 1) * 1000) + counted.deaths) + 1)) / 1000)
    FROM ( SELECT eventferry.batch_deaths(eventferry.batch_count(begin_batch.projection), begin_batch.begun) AS batch_deaths) counted(deaths);
END;

-- Name: count_batches(text); Type: FUNCTION; Schema: eventferry; Owner: -

CREATE FUNCTION eventferry.count_batches(projection text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    IF to_regclass(eventferry.batch_counter(projection)) IS NULL THEN
        PERFORM pg_advisory_xact_lock(17734, 2);  -- two at once would collide in the catalog
        EXECUTE 'CREATE SEQUENCE IF NOT EXISTS ' || eventferry.batch_counter(projection);
    END IF;
END;
$$;

-- Name: create_stream(text, text, text); Type: FUNCTION; Schema: eventferry; Owner: -

CREATE FUNCTION eventferry.create_stream(stream_name text, stream_owner text DEFAULT NULL::text, stream_description text DEFAULT NULL::text) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
DECLARE
    this   eventferry.store;
    next   smallint;
    leaf   text := format('streams.%I', stream_name);
BEGIN
    IF stream_name !~ '^[a-z][a-z0-9_]*(-[a-z0-9_]+)*$' OR octet_length(stream_name) > 63 THEN
        RAISE EXCEPTION '% is not a name for a stream', quote_literal(stream_name)
            USING ERRCODE = 'invalid_name',
                  HINT = 'Lower-case letters, digits, _ and single dashes, a letter first, at most 63: users-stream';
    END IF;
    PERFORM FROM eventferry.streams WHERE name = stream_name;
    IF FOUND THEN
        RETURN false;
    END IF;

    PERFORM pg_advisory_xact_lock(17734, 0);        -- numbers are given out one at a time
    PERFORM FROM eventferry.streams WHERE name = stream_name;
    IF FOUND THEN
        RETURN false;
    END IF;
    SELECT * INTO STRICT this FROM eventferry.store;
    SELECT coalesce(max(number), 0) + 1 INTO next FROM eventferry.streams;
    INSERT INTO eventferry.streams (number, name, owner, description)
    VALUES (next, stream_name, coalesce(stream_owner, this.service), stream_description);

    -- Names with a dot: no stream's name has one, so none can collide.
    EXECUTE format('CREATE TABLE %s (LIKE eventferry.events INCLUDING DEFAULTS INCLUDING CONSTRAINTS,
                        CONSTRAINT %I PRIMARY KEY (position),
                        CONSTRAINT %I UNIQUE (id),
                        CONSTRAINT %I CHECK (stream = %s))',
                   leaf, next || '.position', next || '.id', next || '.stream', next);
    EXECUTE format('ALTER TABLE %s ALTER COLUMN stream SET DEFAULT %s', leaf, next);
    IF this.service IS NOT NULL THEN
        EXECUTE format('ALTER TABLE %s ALTER COLUMN source SET DEFAULT %L', leaf, this.service);
    END IF;
    -- Versions are unique where they are given out. Where they only arrive, nothing may get stuck on them.
    EXECUTE format('CREATE %s INDEX %I ON %s (entity_id, version) WHERE entity_id IS NOT NULL',
                   CASE this.kind WHEN 'local' THEN 'UNIQUE' ELSE '' END, next || '.version', leaf);
    EXECUTE format('CREATE TRIGGER mark BEFORE INSERT ON %s
                        FOR EACH STATEMENT EXECUTE FUNCTION eventferry.mark(%L, %L, %L, %L)',
                   leaf, next, eventferry.marker_key(next), eventferry.sleeper_key(next),
                   'eventferry.marker_' || next);
    EXECUTE format('CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON %s
                        FOR EACH STATEMENT EXECUTE FUNCTION eventferry.refuse_change()', leaf);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER mark, ENABLE ALWAYS TRIGGER refuse_change', leaf);
    EXECUTE format('ALTER TABLE eventferry.events ATTACH PARTITION %s FOR VALUES IN (%s)', leaf, next);
    RETURN true;
END;
$_$;

-- Name: heads(text[]); Type: FUNCTION; Schema: eventferry; Owner: -

CREATE FUNCTION eventferry.heads(names text[]) RETURNS TABLE(name text, head bigint)
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    FOR name IN SELECT s.name FROM eventferry.streams AS s WHERE s.name = ANY (names) LOOP
        EXECUTE format('SELECT coalesce(max(position), 0) FROM streams.%I', name) INTO head;
        RETURN NEXT;
    END LOOP;
END;
$$;

-- Name: horizon(text[]); Type: FUNCTION; Schema: eventferry; Owner: -

CREATE FUNCTION eventferry.horizon(names text[], OUT store uuid, OUT incarnations uuid[], OUT head bigint, OUT horizon bigint, OUT in_flight integer) RETURNS record
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
DECLARE
    keys oid[];
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'a horizon is asked for in %, but only READ COMMITTED sees what has been committed since',
                upper(current_setting('transaction_isolation'))
            USING ERRCODE = 'invalid_transaction_state',
                  HINT = 'Read streams in a transaction of their own: BEGIN ISOLATION LEVEL READ COMMITTED.';
    END IF;
    IF pg_is_in_recovery() THEN
        RAISE EXCEPTION 'a horizon is asked of a standby, which does not see the markers of its primary'
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Connect to the primary.';
    END IF;

    SELECT s.id INTO STRICT store FROM eventferry.store AS s;
    SELECT array_agg(s.incarnation ORDER BY n.place), array_agg(eventferry.marker_key(s.number)::oid)
      INTO incarnations, keys
      FROM unnest(names) WITH ORDINALITY AS n (name, place)
      LEFT JOIN eventferry.streams AS s ON s.name = n.name;

    head := coalesce(pg_sequence_last_value('eventferry.positions'), 0);

    -- A marker holds the low 32 bits of a position: the signed distance to the head gives the rest.
    -- One newer than the head lowers nothing, but is in flight all the same.
    SELECT least(head, min(head + ((objid::bigint - head) << 32 >> 32))), count(*)
      INTO horizon, in_flight
      FROM pg_locks
     WHERE locktype = 'advisory'
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND objsubid = 2
       AND mode = 'ShareLock'
       AND classid = ANY (keys);

    IF pg_sequence_last_value('eventferry.positions') > head THEN
        in_flight := in_flight + 1;
    END IF;
END;
$$;

-- Name: keep_mark(text, text, text, uuid, bigint, uuid); Type: FUNCTION; Schema: eventferry; Owner: -

CREATE FUNCTION eventferry.keep_mark(service text, projection text, stream text, store uuid, "position" bigint, event_id uuid) RETURNS void
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $_$
    INSERT INTO eventferry.marks VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING;
    DELETE FROM eventferry.marks AS mark
     USING (SELECT aged.position,
                   row_number() OVER (PARTITION BY unit, date_trunc(unit, at) ORDER BY at) AS place
              FROM eventferry.marks AS aged,
                   LATERAL (VALUES (CASE WHEN at > clock_timestamp() - interval '2 days'
                                         THEN 'hour' ELSE 'day' END)) AS units (unit)
             WHERE (aged.service, aged.projection, aged.stream, aged.store) = ($1, $2, $3, $4)) AS placed
     WHERE (mark.service, mark.projection, mark.stream, mark.store) = ($1, $2, $3, $4)
       AND mark.position = placed.position
       AND (at < clock_timestamp() - interval '1 year'
            OR at < clock_timestamp() - interval '15 minutes' AND place > 1);
$_$;

-- Name: mark(); Type: FUNCTION; Schema: eventferry; Owner: -

CREATE FUNCTION eventferry.mark() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
DECLARE
    xid     constant pg_catalog.text := pg_catalog.pg_current_xact_id();
    drawn   bigint;
    ignored pg_catalog.text;
BEGIN
    -- A commit that is visible before it is durable could be read, ferried, and taken back by a crash.
    IF pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.=) 'off' THEN
        ignored := pg_catalog.set_config('synchronous_commit', 'on', true);
    END IF;

    -- One marker a transaction and stream: ten thousand INSERTs would fill the lock table.
    -- The setting is rolled back with the savepoint that took the lock.
    IF pg_catalog.current_setting(TG_ARGV[3], true) OPERATOR(pg_catalog.=) xid THEN
        RETURN NULL;
    END IF;

    drawn := pg_catalog.pg_sequence_last_value('eventferry.positions');
    IF drawn IS NULL THEN
        -- While nothing was ever drawn, the marker is 0. But NULL also comes from the lack of a right.
        IF NOT pg_catalog.has_sequence_privilege('eventferry.positions', 'USAGE') THEN
            RAISE EXCEPTION 'an append needs USAGE on the sequence eventferry.positions, which % lacks', current_user
                USING ERRCODE = 'insufficient_privilege', HINT = 'GRANT USAGE ON SEQUENCE eventferry.positions TO …';
        END IF;
        drawn := 0;
    END IF;
    -- its low 32 bits, as a signed integer
    drawn := drawn OPERATOR(pg_catalog.<<) 32 OPERATOR(pg_catalog.>>) 32;
    IF pg_catalog.pg_try_advisory_xact_lock_shared(TG_ARGV[1]::integer, drawn::integer) IS NOT TRUE THEN
        RAISE EXCEPTION 'eventferry could not mark an append to stream number %', TG_ARGV[0]
            USING HINT = 'Something else holds exclusive advisory locks in our range of keys (pg_locks).';
    END IF;
    ignored := pg_catalog.set_config(TG_ARGV[3], xid, true);

    -- After the marker: a reader that does not hold its lock yet has not taken its last look
    -- either, and will see the marker. Locks are no matter of snapshots: this is true in every
    -- isolation level. (One expression: nothing can interrupt between lock and unlock.)
    IF (CASE WHEN pg_catalog.pg_try_advisory_lock(TG_ARGV[2]::integer, 0)
             THEN NOT pg_catalog.pg_advisory_unlock(TG_ARGV[2]::integer, 0)
             ELSE true END)
    THEN
        IF COALESCE(pg_catalog.current_setting('eventferry.notify', true), '')
            OPERATOR(pg_catalog.<>) 'off'
        THEN
            PERFORM pg_catalog.pg_notify('eventferry', TG_ARGV[0]);
        END IF;
    END IF;
    RETURN NULL;
END;
$$;

-- Name: marker_key(smallint); Type: FUNCTION; Schema: eventferry; Owner: -

CREATE FUNCTION eventferry.marker_key(number smallint) RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ((17734 << 16) + number);

-- Name: open_appends(text[]); Type: FUNCTION; Schema: eventferry; Owner: -

CREATE FUNCTION eventferry.open_appends(names text[]) RETURNS TABLE(stream text, pid integer, prepared text, "user" text, application text, client text, state text, since timestamp with time zone, open_s double precision, unseen_by text)
    LANGUAGE sql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    SELECT streams.name, marker.pid, prepared.gid, coalesce(activity.usename, prepared.owner),
           nullif(activity.application_name, ''), host(activity.client_addr), activity.state, began.at,
           extract(epoch FROM clock_timestamp() - began.at)::float8,
           CASE WHEN activity.pid IS NOT NULL AND activity.state IS NULL THEN current_user END
      FROM eventferry.streams
      JOIN pg_locks AS marker
        ON marker.locktype = 'advisory' AND marker.objsubid = 2 AND marker.mode = 'ShareLock'
       AND marker.database = (SELECT oid FROM pg_database WHERE datname = current_database())
       AND marker.classid = eventferry.marker_key(streams.number)::oid
      LEFT JOIN pg_stat_activity AS activity ON activity.pid = marker.pid
      LEFT JOIN (pg_locks AS own JOIN pg_prepared_xacts AS prepared ON prepared.transaction = own.transactionid)
        ON own.locktype = 'transactionid' AND own.mode = 'ExclusiveLock' AND own.pid IS NULL
       AND own.virtualtransaction = marker.virtualtransaction AND marker.pid IS NULL
     CROSS JOIN LATERAL (VALUES (coalesce(activity.xact_start, prepared.prepared))) AS began (at)
     WHERE streams.name = ANY (names)
     ORDER BY began.at NULLS FIRST, marker.pid
$$;

-- Name: refuse_change(); Type: FUNCTION; Schema: eventferry; Owner: -

CREATE FUNCTION eventferry.refuse_change() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    RAISE EXCEPTION '% of %.% refused: streams are append-only', TG_OP, TG_TABLE_SCHEMA, pg_catalog.quote_ident(TG_TABLE_NAME)
        USING ERRCODE = 'object_not_in_prerequisite_state',
              HINT = 'Append an event that corrects the earlier one.';
END;
$$;

-- Name: refuse_insert(); Type: FUNCTION; Schema: eventferry; Owner: -

CREATE FUNCTION eventferry.refuse_insert() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
BEGIN
    RAISE EXCEPTION 'insert into the table of the stream, not into eventferry.events: %',
            coalesce((SELECT string_agg(format('streams.%I', name), ', ' ORDER BY number)
                      FROM (SELECT name, number FROM eventferry.streams ORDER BY number LIMIT 10) AS first_ten),
                     'create a stream first')
        USING ERRCODE = 'object_not_in_prerequisite_state',
              HINT = 'Only there is the append marked, so that no reader misses it.';
END;
$$;

-- Name: sleeper_key(smallint); Type: FUNCTION; Schema: eventferry; Owner: -

CREATE FUNCTION eventferry.sleeper_key(number smallint) RETURNS integer
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ((17735 << 16) + number);

-- Name: uuid7(); Type: FUNCTION; Schema: eventferry; Owner: -

CREATE FUNCTION eventferry.uuid7() RETURNS uuid
    LANGUAGE sql PARALLEL SAFE
    BEGIN ATOMIC
 SELECT (encode(set_bit(set_bit(OVERLAY(uuid_send(gen_random_uuid()) PLACING SUBSTRING(int8send(((EXTRACT(epoch FROM clock_timestamp()) * (1000)::numeric))::bigint) FROM 3) FROM 1 FOR 6), (52)::bigint, 1), (53)::bigint, 1), 'hex'::text))::uuid AS encode;
END;

-- Name: audit; Type: TABLE; Schema: eventferry; Owner: -

CREATE TABLE eventferry.audit (
    id bigint NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    who text NOT NULL,
    service text NOT NULL,
    projection text NOT NULL,
    action text NOT NULL,
    reason text,
    details jsonb DEFAULT '{}'::jsonb NOT NULL
);

-- Name: audit_id_seq; Type: SEQUENCE; Schema: eventferry; Owner: -

ALTER TABLE eventferry.audit ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME eventferry.audit_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

-- Name: checkpoints; Type: TABLE; Schema: eventferry; Owner: -

CREATE TABLE eventferry.checkpoints (
    service text NOT NULL,
    projection text NOT NULL,
    stream text NOT NULL,
    store uuid NOT NULL,
    incarnation uuid NOT NULL,
    "position" bigint NOT NULL,
    event_id uuid,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    replay_until bigint DEFAULT 0 NOT NULL,
    held boolean DEFAULT false NOT NULL,
    stops integer DEFAULT 0 NOT NULL,
    begun bigint DEFAULT 0 NOT NULL,
    marked_at timestamp with time zone
)
WITH (fillfactor='50');

-- Name: positions; Type: SEQUENCE; Schema: eventferry; Owner: -

CREATE SEQUENCE eventferry.positions
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;

-- Name: events; Type: TABLE; Schema: eventferry; Owner: -

CREATE TABLE eventferry.events (
    "position" bigint DEFAULT nextval('eventferry.positions'::regclass) NOT NULL,
    occurred_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    recorded_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    version integer,
    stream smallint NOT NULL,
    id uuid DEFAULT eventferry.uuid7() NOT NULL,
    type text NOT NULL,
    source text DEFAULT CURRENT_USER NOT NULL,
    entity_id text,
    data json DEFAULT '{}'::json NOT NULL,
    metadata json DEFAULT '{}'::json NOT NULL,
    CONSTRAINT events_data_object CHECK ((json_typeof(data) = 'object'::text)),
    CONSTRAINT events_data_size CHECK ((pg_column_size(data) <= 16777216)),
    CONSTRAINT events_entity_id CHECK (((length(entity_id) >= 1) AND (length(entity_id) <= 255))),
    CONSTRAINT events_metadata_object CHECK ((json_typeof(metadata) = 'object'::text)),
    CONSTRAINT events_metadata_size CHECK ((pg_column_size(metadata) <= 1048576)),
    CONSTRAINT events_occurred_at CHECK (((occurred_at >= '0001-01-03 00:00:00+00'::timestamp with time zone) AND (occurred_at <= '9999-12-29 00:00:00+00'::timestamp with time zone))),
    CONSTRAINT events_recorded_at CHECK (((recorded_at >= '0001-01-03 00:00:00+00'::timestamp with time zone) AND (recorded_at <= '9999-12-29 00:00:00+00'::timestamp with time zone))),
    CONSTRAINT events_source CHECK (((length(source) >= 1) AND (length(source) <= 255))),
    CONSTRAINT events_type CHECK (((length(type) >= 1) AND (length(type) <= 255))),
    CONSTRAINT events_version CHECK (((version IS NULL) OR ((version > 0) AND (entity_id IS NOT NULL))))
)
PARTITION BY LIST (stream);

-- Name: failures; Type: TABLE; Schema: eventferry; Owner: -

CREATE TABLE eventferry.failures (
    id bigint NOT NULL,
    projection text NOT NULL,
    attempt integer NOT NULL,
    stream text,
    "position" bigint,
    event_id uuid,
    event_type text,
    entity_id text,
    error_type text NOT NULL,
    error text NOT NULL,
    traceback text NOT NULL,
    gave_up boolean NOT NULL,
    failed_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

-- Name: failures_id_seq; Type: SEQUENCE; Schema: eventferry; Owner: -

ALTER TABLE eventferry.failures ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME eventferry.failures_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

-- Name: marks; Type: TABLE; Schema: eventferry; Owner: -

CREATE TABLE eventferry.marks (
    service text NOT NULL,
    projection text NOT NULL,
    stream text NOT NULL,
    store uuid NOT NULL,
    "position" bigint NOT NULL,
    event_id uuid NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

-- Name: migrations; Type: TABLE; Schema: eventferry; Owner: -

CREATE TABLE eventferry.migrations (
    number integer NOT NULL,
    name text NOT NULL,
    breaking boolean NOT NULL,
    applied_by text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);

-- Name: parked_events; Type: TABLE; Schema: eventferry; Owner: -

CREATE TABLE eventferry.parked_events (
    projection text NOT NULL,
    stream text NOT NULL,
    "position" bigint NOT NULL,
    event_id uuid NOT NULL,
    event_type text NOT NULL,
    entity_id text,
    attempts integer DEFAULT 0 NOT NULL,
    error text,
    traceback text,
    parked_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    fingerprint text
);

-- Name: projections; Type: TABLE; Schema: eventferry; Owner: -

CREATE TABLE eventferry.projections (
    name text NOT NULL,
    kind text NOT NULL,
    environment text NOT NULL,
    streams text[] NOT NULL,
    background boolean NOT NULL,
    queue text NOT NULL,
    state text DEFAULT 'idle'::text NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    error text,
    traceback text,
    failing_stream text,
    failing_position bigint,
    failing_event_id uuid,
    failing_event_type text,
    failed_at timestamp with time zone,
    runner text,
    heartbeat_at timestamp with time zone,
    registered_at timestamp with time zone DEFAULT now() NOT NULL,
    began_horizon bigint,
    began_head bigint,
    next_attempt_at timestamp with time zone,
    paused_at timestamp with time zone,
    paused_by text,
    pause_reason text,
    stops integer DEFAULT 0 NOT NULL,
    kept_in uuid,
    CONSTRAINT projections_environment_check CHECK ((environment = ANY (ARRAY['local'::text, 'shared'::text]))),
    CONSTRAINT projections_kind_check CHECK ((kind = ANY (ARRAY['producing'::text, 'consuming'::text]))),
    CONSTRAINT projections_state_check CHECK ((state = ANY (ARRAY['idle'::text, 'retrying'::text, 'failed'::text, 'deleted'::text])))
);

-- Name: reports; Type: TABLE; Schema: eventferry; Owner: -

CREATE TABLE eventferry.reports (
    service text NOT NULL,
    projection text NOT NULL,
    kind text NOT NULL,
    environment text NOT NULL,
    streams text[] NOT NULL,
    shared_stream text,
    mode text NOT NULL,
    state text NOT NULL,
    lag bigint,
    behind_s double precision,
    error text,
    version text NOT NULL,
    reported_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    rate double precision
);

-- Name: runners; Type: TABLE; Schema: eventferry; Owner: -

CREATE TABLE eventferry.runners (
    id uuid DEFAULT eventferry.uuid7() NOT NULL,
    host text NOT NULL,
    pid integer NOT NULL,
    command text NOT NULL,
    projections text[] NOT NULL,
    version text NOT NULL,
    started_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    seen_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    asked_at timestamp with time zone
);

-- Name: statistics; Type: TABLE; Schema: eventferry; Owner: -

CREATE TABLE eventferry.statistics (
    projection text NOT NULL,
    minute timestamp with time zone NOT NULL,
    events bigint NOT NULL,
    failures bigint NOT NULL,
    busy_s double precision NOT NULL,
    since timestamp with time zone NOT NULL,
    until timestamp with time zone NOT NULL,
    retries bigint DEFAULT 0 NOT NULL,
    parked bigint DEFAULT 0 NOT NULL,
    calls bigint[] DEFAULT '{}'::bigint[] NOT NULL,
    handler_s double precision DEFAULT 0 NOT NULL,
    lag bigint,
    behind_s double precision
);

-- Name: store; Type: TABLE; Schema: eventferry; Owner: -

CREATE TABLE eventferry.store (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    kind text NOT NULL,
    service text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT store_kind_check CHECK ((kind = ANY (ARRAY['local'::text, 'shared'::text])))
);

-- Name: streams; Type: TABLE; Schema: eventferry; Owner: -

CREATE TABLE eventferry.streams (
    number smallint NOT NULL,
    name text NOT NULL,
    incarnation uuid DEFAULT gen_random_uuid() NOT NULL,
    owner text,
    description text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT streams_number_check CHECK ((number > 0))
);

-- Name: versions; Type: TABLE; Schema: eventferry; Owner: -

CREATE TABLE eventferry.versions (
    version text NOT NULL,
    first_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    last_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);

-- Name: waits; Type: TABLE; Schema: eventferry; Owner: -

CREATE UNLOGGED TABLE eventferry.waits (
    id uuid NOT NULL,
    service text NOT NULL,
    projection text NOT NULL,
    stream text NOT NULL,
    "position" bigint NOT NULL,
    events uuid[] NOT NULL,
    asked_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    until timestamp with time zone NOT NULL,
    answer text,
    CONSTRAINT waits_answer_check CHECK ((answer = ANY (ARRAY['handled'::text, 'parked'::text])))
);

-- Name: users-stream; Type: TABLE; Schema: streams; Owner: -

CREATE TABLE streams."users-stream" (
    "position" bigint DEFAULT nextval('eventferry.positions'::regclass) NOT NULL,
    occurred_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    recorded_at timestamp with time zone DEFAULT statement_timestamp() NOT NULL,
    version integer,
    stream smallint DEFAULT 1 NOT NULL,
    id uuid DEFAULT eventferry.uuid7() NOT NULL,
    type text NOT NULL,
    source text DEFAULT 'users'::text NOT NULL,
    entity_id text,
    data json DEFAULT '{}'::json NOT NULL,
    metadata json DEFAULT '{}'::json NOT NULL,
    CONSTRAINT "1.stream" CHECK ((stream = 1)),
    CONSTRAINT events_data_object CHECK ((json_typeof(data) = 'object'::text)),
    CONSTRAINT events_data_size CHECK ((pg_column_size(data) <= 16777216)),
    CONSTRAINT events_entity_id CHECK (((length(entity_id) >= 1) AND (length(entity_id) <= 255))),
    CONSTRAINT events_metadata_object CHECK ((json_typeof(metadata) = 'object'::text)),
    CONSTRAINT events_metadata_size CHECK ((pg_column_size(metadata) <= 1048576)),
    CONSTRAINT events_occurred_at CHECK (((occurred_at >= '0001-01-03 00:00:00+00'::timestamp with time zone) AND (occurred_at <= '9999-12-29 00:00:00+00'::timestamp with time zone))),
    CONSTRAINT events_recorded_at CHECK (((recorded_at >= '0001-01-03 00:00:00+00'::timestamp with time zone) AND (recorded_at <= '9999-12-29 00:00:00+00'::timestamp with time zone))),
    CONSTRAINT events_source CHECK (((length(source) >= 1) AND (length(source) <= 255))),
    CONSTRAINT events_type CHECK (((length(type) >= 1) AND (length(type) <= 255))),
    CONSTRAINT events_version CHECK (((version IS NULL) OR ((version > 0) AND (entity_id IS NOT NULL))))
);

-- Name: users-stream; Type: TABLE ATTACH; Schema: streams; Owner: -

ALTER TABLE ONLY eventferry.events ATTACH PARTITION streams."users-stream" FOR VALUES IN ('1');

-- Name: audit audit_pkey; Type: CONSTRAINT; Schema: eventferry; Owner: -

ALTER TABLE ONLY eventferry.audit
    ADD CONSTRAINT audit_pkey PRIMARY KEY (id);

-- Name: checkpoints checkpoints_pkey; Type: CONSTRAINT; Schema: eventferry; Owner: -

ALTER TABLE ONLY eventferry.checkpoints
    ADD CONSTRAINT checkpoints_pkey PRIMARY KEY (service, projection, stream, store);

-- Name: failures failures_pkey; Type: CONSTRAINT; Schema: eventferry; Owner: -

ALTER TABLE ONLY eventferry.failures
    ADD CONSTRAINT failures_pkey PRIMARY KEY (id);

-- Name: marks marks_pkey; Type: CONSTRAINT; Schema: eventferry; Owner: -

ALTER TABLE ONLY eventferry.marks
    ADD CONSTRAINT marks_pkey PRIMARY KEY (service, projection, stream, store, "position");

-- Name: migrations migrations_pkey; Type: CONSTRAINT; Schema: eventferry; Owner: -

ALTER TABLE ONLY eventferry.migrations
    ADD CONSTRAINT migrations_pkey PRIMARY KEY (number);

-- Name: parked_events parked_events_pkey; Type: CONSTRAINT; Schema: eventferry; Owner: -

ALTER TABLE ONLY eventferry.parked_events
    ADD CONSTRAINT parked_events_pkey PRIMARY KEY (projection, "position", stream);

-- Name: projections projections_pkey; Type: CONSTRAINT; Schema: eventferry; Owner: -

ALTER TABLE ONLY eventferry.projections
    ADD CONSTRAINT projections_pkey PRIMARY KEY (name);

-- Name: reports reports_pkey; Type: CONSTRAINT; Schema: eventferry; Owner: -

ALTER TABLE ONLY eventferry.reports
    ADD CONSTRAINT reports_pkey PRIMARY KEY (service, projection);

-- Name: runners runners_pkey; Type: CONSTRAINT; Schema: eventferry; Owner: -

ALTER TABLE ONLY eventferry.runners
    ADD CONSTRAINT runners_pkey PRIMARY KEY (id);

-- Name: statistics statistics_pkey; Type: CONSTRAINT; Schema: eventferry; Owner: -

ALTER TABLE ONLY eventferry.statistics
    ADD CONSTRAINT statistics_pkey PRIMARY KEY (projection, minute);

-- Name: streams streams_name_key; Type: CONSTRAINT; Schema: eventferry; Owner: -

ALTER TABLE ONLY eventferry.streams
    ADD CONSTRAINT streams_name_key UNIQUE (name);

-- Name: streams streams_pkey; Type: CONSTRAINT; Schema: eventferry; Owner: -

ALTER TABLE ONLY eventferry.streams
    ADD CONSTRAINT streams_pkey PRIMARY KEY (number);

-- Name: versions versions_pkey; Type: CONSTRAINT; Schema: eventferry; Owner: -

ALTER TABLE ONLY eventferry.versions
    ADD CONSTRAINT versions_pkey PRIMARY KEY (version);

-- Name: waits waits_pkey; Type: CONSTRAINT; Schema: eventferry; Owner: -

ALTER TABLE ONLY eventferry.waits
    ADD CONSTRAINT waits_pkey PRIMARY KEY (id, stream);

-- Name: users-stream 1.id; Type: CONSTRAINT; Schema: streams; Owner: -

ALTER TABLE ONLY streams."users-stream"
    ADD CONSTRAINT "1.id" UNIQUE (id);

-- Name: users-stream 1.position; Type: CONSTRAINT; Schema: streams; Owner: -

ALTER TABLE ONLY streams."users-stream"
    ADD CONSTRAINT "1.position" PRIMARY KEY ("position");

-- Name: audit_in_time; Type: INDEX; Schema: eventferry; Owner: -

CREATE INDEX audit_in_time ON eventferry.audit USING btree (at, id);

-- Name: audit_of_projection; Type: INDEX; Schema: eventferry; Owner: -

CREATE INDEX audit_of_projection ON eventferry.audit USING btree (service, projection, id);

-- Name: failures_of_projection; Type: INDEX; Schema: eventferry; Owner: -

CREATE INDEX failures_of_projection ON eventferry.failures USING btree (projection, id);

-- Name: parked_alike; Type: INDEX; Schema: eventferry; Owner: -

CREATE INDEX parked_alike ON eventferry.parked_events USING btree (fingerprint, projection, "position", stream) INCLUDE (parked_at);

-- Name: parked_entities; Type: INDEX; Schema: eventferry; Owner: -

CREATE INDEX parked_entities ON eventferry.parked_events USING btree (projection, stream, entity_id);

-- Name: store_one_row; Type: INDEX; Schema: eventferry; Owner: -

CREATE UNIQUE INDEX store_one_row ON eventferry.store USING btree ((true));

-- Name: 1.version; Type: INDEX; Schema: streams; Owner: -

CREATE UNIQUE INDEX "1.version" ON streams."users-stream" USING btree (entity_id, version) WHERE (entity_id IS NOT NULL);

-- Name: events refuse_change; Type: TRIGGER; Schema: eventferry; Owner: -

CREATE TRIGGER refuse_change BEFORE DELETE OR UPDATE OR TRUNCATE ON eventferry.events FOR EACH STATEMENT EXECUTE FUNCTION eventferry.refuse_change();

ALTER TABLE eventferry.events ENABLE ALWAYS TRIGGER refuse_change;

-- Name: events refuse_insert; Type: TRIGGER; Schema: eventferry; Owner: -

CREATE TRIGGER refuse_insert BEFORE INSERT ON eventferry.events FOR EACH STATEMENT EXECUTE FUNCTION eventferry.refuse_insert();

ALTER TABLE eventferry.events ENABLE ALWAYS TRIGGER refuse_insert;

-- Name: users-stream mark; Type: TRIGGER; Schema: streams; Owner: -

CREATE TRIGGER mark BEFORE INSERT ON streams."users-stream" FOR EACH STATEMENT EXECUTE FUNCTION eventferry.mark('1', '1162215425', '1162280961', 'eventferry.marker_1');

ALTER TABLE streams."users-stream" ENABLE ALWAYS TRIGGER mark;

-- Name: users-stream refuse_change; Type: TRIGGER; Schema: streams; Owner: -

CREATE TRIGGER refuse_change BEFORE DELETE OR UPDATE OR TRUNCATE ON streams."users-stream" FOR EACH STATEMENT EXECUTE FUNCTION eventferry.refuse_change();

ALTER TABLE streams."users-stream" ENABLE ALWAYS TRIGGER refuse_change;
