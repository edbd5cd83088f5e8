-- The batches of a projection are counted by a sequence, which no rollback takes back: a count that
-- is ahead of its checkpoint's tells of batches that have ended without a word, with their process.
-- It is set, not drawn from: drawing would leap ahead when the server crashes. Whoever sets it holds
-- the checkpoint.
-- Its value is the number of the last batch that has begun, a thousand times, and how many have
-- begun since one has said how it ended. So it says itself from which checkpoint it counts: pg_dump
-- reads a sequence as it is, and the checkpoints as they were when the dump began.
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

CREATE FUNCTION eventferry.batch_count(projection text) RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN coalesce(pg_sequence_last_value(to_regclass(eventferry.batch_counter(projection))), 0);

-- The number of the last batch that has begun.
CREATE FUNCTION eventferry.batches_begun(projection text) RETURNS bigint
LANGUAGE sql VOLATILE
RETURN eventferry.batch_count(projection) / 1000;

-- How many batches have ended without a word since the one of this number, the last that did not.
CREATE FUNCTION eventferry.batch_deaths(count bigint, begun bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN count / 1000 - count % 1000 = begun THEN count % 1000 ELSE 0 END;

-- The number of a batch that begins after that one; NULL where they are not counted.
CREATE FUNCTION eventferry.begin_batch(projection text, begun bigint) RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
    SELECT setval(to_regclass(eventferry.batch_counter(projection)), (begun + deaths + 1) * 1000 + deaths + 1) / 1000
      FROM (SELECT eventferry.batch_deaths(eventferry.batch_count(projection), begun)) AS counted (deaths);
END;
