-- what all services last said of their projections, and how many seconds ago
SELECT service, projection, kind, environment, streams, shared_stream, mode, state, lag, behind_s, rate, error,
       version, extract(epoch FROM clock_timestamp() - reported_at)::float8 AS age_s
  FROM eventferry.reports
 ORDER BY service, projection
