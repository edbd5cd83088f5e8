-- BEFORE INSERT … FOR EACH STATEMENT on every stream table; arguments: the stream's number, the
-- first key of its markers, that of its sleepers, and the setting that remembers the marker.
--
-- Before the transaction draws its first position of the stream, it takes the marker: a shared
-- advisory lock named by the stream and the last position drawn by anyone. Whoever reads the
-- stream sees by it that positions above may still appear. It goes with the transaction, after
-- the rows became visible or vanished. Shared locks of different transactions never conflict.
--
-- A reader that sleeps holds a shared lock that says so, on the connection that listens. Whoever
-- can have the lock for itself, for an instant, knows that nobody sleeps, and notifies nobody.
-- Nor does who has said so: a transaction that has notified can't be prepared for a second phase.
--
-- Simple expressions only, as long as nobody sleeps; everything by its full name instead of
-- SECURITY DEFINER with a search_path, which costs 5 % (docs/adr/0001, 0005).
CREATE OR REPLACE FUNCTION eventferry.mark() RETURNS trigger
LANGUAGE plpgsql VOLATILE
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
