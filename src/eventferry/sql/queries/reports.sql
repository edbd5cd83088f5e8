-- service, projections: what was last said of them, and how many seconds ago
SELECT projection, state, lag, behind_s, error, version, mode, streams,
       extract(epoch FROM clock_timestamp() - reported_at)::float8 AS age_s
  FROM eventferry.reports
 WHERE service = %s AND projection = ANY (%s)
