-- {keys}: of an index, in their order; {first}: the values of them behind which to begin; {which}: TRUE, or
-- where to end; type or NULL; how many are looked at, how many at most are answered: parked events in
-- order, those that wait too.
-- The last one that was looked at is answered as well, wanted or not: there one can go on.
SELECT projection, stream, position, event_id, event_type, entity_id, attempts, left(error, 4000) AS error,
       fingerprint, parked_at, place, is_wanted
  FROM (SELECT *, row_number() OVER in_order AS place, lead(position) OVER in_order IS NULL AS is_last,
               %(type)s::text IS NULL OR event_type = %(type)s::text AS is_wanted
          FROM (SELECT * FROM eventferry.parked_events
                 WHERE ({keys}) > ({first}) AND {which}
                 ORDER BY {keys} LIMIT %(look)s::bigint) AS parked
        WINDOW in_order AS (ORDER BY {keys})) AS looked_at
 WHERE is_wanted OR is_last
 ORDER BY {keys} LIMIT %(limit)s::bigint
