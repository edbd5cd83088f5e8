-- service, projection: what was last said of it, and how many seconds ago
SELECT kind, environment, streams, state, lag, error,
       extract(epoch FROM clock_timestamp() - reported_at)::float8 AS age_s
  FROM eventferry.reports
 WHERE service = %s AND projection = %s
