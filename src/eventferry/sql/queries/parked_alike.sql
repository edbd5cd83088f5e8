-- how many fingerprints at most, how many events of each are counted: those that failed alike, from
-- fingerprint to fingerprint through their index
WITH RECURSIVE alike (fingerprint, place) AS (
    (SELECT fingerprint, 1 FROM eventferry.parked_events
      WHERE fingerprint IS NOT NULL ORDER BY fingerprint LIMIT 1)
     UNION ALL
    SELECT next.fingerprint, place + 1
      FROM alike
     CROSS JOIN LATERAL (SELECT parked.fingerprint FROM eventferry.parked_events AS parked
                          WHERE parked.fingerprint > alike.fingerprint
                          ORDER BY parked.fingerprint LIMIT 1) AS next
     WHERE place < %(groups)s
)
SELECT alike.fingerprint, counted.events, counted.first_at, counted.last_at, counted.projections,
       left(example.error, 4000) AS error, right(example.traceback, 20000) AS traceback, example.projection,
       example.event_id,
       example.event_type
  FROM alike
 CROSS JOIN LATERAL (
       SELECT count(*) AS events, min(parked_at) AS first_at, max(parked_at) AS last_at,
              array_agg(DISTINCT projection) AS projections
         FROM (SELECT parked_at, projection FROM eventferry.parked_events AS parked
                WHERE parked.fingerprint = alike.fingerprint
                ORDER BY projection, position, stream LIMIT %(count)s) AS alike_ones) AS counted
 CROSS JOIN LATERAL (
       SELECT * FROM eventferry.parked_events AS parked
        WHERE parked.fingerprint >= alike.fingerprint
        ORDER BY fingerprint, projection, position, stream LIMIT 1) AS example
 ORDER BY events DESC, alike.fingerprint
