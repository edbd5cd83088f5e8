-- projection; projection, events, failures, seconds in runs, seconds that they are of: adds to this
-- minute's; and forgets the old ones, where only short runs do anything
WITH old AS (
    DELETE FROM eventferry.statistics
     WHERE projection = %s AND minute < clock_timestamp() - interval '7 days'
)
INSERT INTO eventferry.statistics AS known (projection, minute, events, failures, busy_s, since, until)
SELECT added.projection, date_trunc('minute', now.at), added.events, added.failures, added.busy_s,
       now.at - make_interval(secs => added.seconds), now.at
  FROM (VALUES (%s::text, %s::bigint, %s::bigint, %s::float8, %s::float8))
       AS added (projection, events, failures, busy_s, seconds),
       (VALUES (clock_timestamp())) AS now (at)
ON CONFLICT (projection, minute) DO UPDATE
   SET events = known.events + excluded.events, failures = known.failures + excluded.failures,
       busy_s = known.busy_s + excluded.busy_s, since = least(known.since, excluded.since),
       until = greatest(known.until, excluded.until)
