-- {events}: of each stream the first event from `middle` on, before `high`; $1: up to which position,
-- $2: a moment. The last position before which everything was recorded before that moment.
-- Positions are drawn in about the order of time, and have an index: so it is found by halving.
WITH RECURSIVE search (low, high) AS (
    SELECT 0::bigint, $1::bigint + 1
     UNION ALL
    SELECT CASE WHEN first.recorded_at < $2::timestamptz THEN first.position ELSE low END,
           CASE WHEN first.recorded_at < $2::timestamptz THEN high ELSE middle END
      FROM search
     CROSS JOIN LATERAL (VALUES ((low + high) / 2)) AS halved (middle)
      LEFT JOIN LATERAL (SELECT position, recorded_at FROM ({events}) AS event
                          ORDER BY position LIMIT 1) AS first ON true
     WHERE high - low > 1
)
SELECT max(low) FROM search
