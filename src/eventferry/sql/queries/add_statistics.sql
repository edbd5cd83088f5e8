-- projection, seconds (that all is of), events, failures, retries, parked, busy_s, calls, handler_s,
-- lag, behind_s: adds to this minute's; and forgets the old ones, where only short runs do anything
WITH old AS (
    DELETE FROM eventferry.statistics
     WHERE projection = %(projection)s AND minute < clock_timestamp() - interval '7 days'
)
INSERT INTO eventferry.statistics AS known
       (projection, minute, events, failures, retries, parked, busy_s, calls, handler_s, lag, behind_s,
        since, until)
SELECT %(projection)s, date_trunc('minute', now.at), %(events)s, %(failures)s, %(retries)s, %(parked)s,
       %(busy_s)s, %(calls)s, %(handler_s)s, %(lag)s, %(behind_s)s,
       now.at - make_interval(secs => %(seconds)s), now.at
  FROM (VALUES (clock_timestamp())) AS now (at)
ON CONFLICT (projection, minute) DO UPDATE
   SET events = known.events + excluded.events, failures = known.failures + excluded.failures,
       retries = known.retries + excluded.retries, parked = known.parked + excluded.parked,
       busy_s = known.busy_s + excluded.busy_s, handler_s = known.handler_s + excluded.handler_s,
       calls = ARRAY(SELECT coalesce(before, 0) + coalesce(added, 0)
                       FROM unnest(known.calls, excluded.calls) WITH ORDINALITY
                            AS bucket (before, added, place)
                      ORDER BY place),
       lag = coalesce(excluded.lag, known.lag),
       behind_s = CASE WHEN excluded.lag IS NULL THEN known.behind_s ELSE excluded.behind_s END,
       since = least(known.since, excluded.since), until = greatest(known.until, excluded.until)
