-- Up to where the named streams may be read, all together: nothing at or below it can still appear.
--   store         the store's identity
--   incarnations  of the streams, in the order of the names; NULL where there is no such stream
--   head          the last position drawn by anyone
--   horizon       the head, or less where an append to one of the streams is in flight
--   in_flight     how many appends to them are; one more if anybody drew while it was asked
-- The head is read first, then the markers: an append that draws a position up to the head has
-- marked before, so it is either seen here, or has ended and will be seen by the next statement.
-- One that draws above the head, and ends, between the two is neither: who is about to sleep must
-- not sleep over it, for it may have looked for sleepers before.
CREATE OR REPLACE FUNCTION eventferry.horizon(
    names text[],
    OUT store uuid, OUT incarnations uuid[], OUT head bigint, OUT horizon bigint, OUT in_flight integer)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
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
