-- The batches of a projection are counted by a sequence, which no rollback takes back: a count that
-- is ahead of its checkpoint's tells of batches that have ended without a word, with their process.
-- It is set, not drawn from: drawing would leap ahead when the server crashes. Whoever sets it holds
-- the checkpoint.
CREATE FUNCTION eventferry.batch_counter(projection text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 'eventferry.batches_' || pg_catalog.md5(projection);

CREATE FUNCTION eventferry.count_batches(projection text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF to_regclass(eventferry.batch_counter(projection)) IS NULL THEN
        PERFORM pg_advisory_xact_lock(17734, 2);  -- two at once would collide in the catalog
        EXECUTE 'CREATE SEQUENCE IF NOT EXISTS ' || eventferry.batch_counter(projection);
    END IF;
END;
$$;

CREATE FUNCTION eventferry.batches_begun(projection text) RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN coalesce(pg_sequence_last_value(to_regclass(eventferry.batch_counter(projection))), 0);

-- The number of a batch that begins; NULL where they are not counted.
CREATE FUNCTION eventferry.begin_batch(projection text) RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN setval(to_regclass(eventferry.batch_counter(projection)),
              eventferry.batches_begun(projection) + 1);
