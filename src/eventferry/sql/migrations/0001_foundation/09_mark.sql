-- BEFORE INSERT … FOR EACH STATEMENT on every stream table; arguments: the stream's number,
-- the first key of its markers, the setting that remembers the marker of this transaction.
--
-- Before the transaction draws its first position of the stream, it takes the marker: a shared
-- advisory lock named by the stream and the last position drawn by anyone. Whoever reads the
-- stream sees by it that positions above may still appear. It goes with the transaction, after
-- the rows became visible or vanished. Shared locks of different transactions never conflict.
--
-- Simple expressions only, as long as nobody sleeps; everything by its full name instead of
-- SECURITY DEFINER with a search_path, which costs 5 % (docs/adr/0001).
CREATE FUNCTION eventferry.mark() RETURNS trigger
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    number  constant smallint := TG_ARGV[0];
    xid     constant text := pg_catalog.pg_current_xact_id();
    drawn   bigint;
    ignored text;
BEGIN
    -- One marker a transaction and stream: ten thousand INSERTs would fill the lock table.
    -- The setting is rolled back with the savepoint that took the lock.
    IF pg_catalog.current_setting(TG_ARGV[2], true) OPERATOR(pg_catalog.=) xid THEN
        RETURN NULL;
    END IF;

    -- NULL while nothing was ever drawn: then the marker is 0.
    drawn := coalesce(pg_catalog.pg_sequence_last_value('eventferry.positions'), 0);
    -- its low 32 bits, as a signed integer
    drawn := drawn OPERATOR(pg_catalog.<<) 32 OPERATOR(pg_catalog.>>) 32;
    IF pg_catalog.pg_try_advisory_xact_lock_shared(TG_ARGV[1]::integer, drawn::integer) IS NOT TRUE THEN
        RAISE EXCEPTION 'eventferry could not mark an append to stream number %', number
            USING HINT = 'Something else holds exclusive advisory locks in our range of keys (pg_locks).';
    END IF;
    ignored := pg_catalog.set_config(TG_ARGV[2], xid, true);

    -- A commit that is visible before it is durable could be read, ferried, and taken back by a crash.
    IF pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.=) 'off' THEN
        ignored := pg_catalog.set_config('synchronous_commit', 'on', true);
    END IF;

    -- After the marker, in a snapshot of its own: a reader that is not seen here has not yet
    -- taken its last look, and will see the marker. Where the snapshot is older than the
    -- marker, nobody can be sure: notify.
    IF pg_catalog.current_setting('transaction_isolation') OPERATOR(pg_catalog.<>) 'read committed'
       OR EXISTS (SELECT FROM eventferry.sleepers WHERE stream OPERATOR(pg_catalog.=) number)
    THEN
        PERFORM pg_catalog.pg_notify('eventferry', number::text);
    END IF;
    RETURN NULL;
END;
$$;
