-- pid of the listener, names of the streams: their numbers and names.
-- Those whose listener is gone are cleared away, or they would be notified for ever.
WITH gone AS (
    DELETE FROM eventferry.sleepers
     WHERE listener NOT IN (SELECT pid FROM pg_stat_activity WHERE pid IS NOT NULL)
), asleep AS (
    INSERT INTO eventferry.sleepers (listener, stream)
    SELECT %s, number FROM eventferry.streams WHERE name = ANY (%s)
    ON CONFLICT DO NOTHING
)
SELECT number::text, name FROM eventferry.streams
