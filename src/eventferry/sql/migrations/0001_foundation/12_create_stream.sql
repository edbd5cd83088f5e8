-- Creates the stream, or finds it; answers whether it is new.
--   stream_name   must be valid: checked here too, for callers that are not ours
--   stream_owner  the service that it belongs to
-- The table is made first and attached then: PARTITION OF would lock the parent against everybody.
CREATE FUNCTION eventferry.create_stream(stream_name text, stream_owner text DEFAULT NULL, stream_description text DEFAULT NULL)
RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
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
$$;
