-- service, projections: what was last said of them, and how many seconds ago
SELECT projection, kind, environment, streams, shared_stream, mode, state, lag, behind_s, rate, error, version,
       extract(epoch FROM clock_timestamp() - reported_at)::float8 AS age_s
  FROM eventferry.reports
 WHERE service = %s AND projection = ANY (%s)
