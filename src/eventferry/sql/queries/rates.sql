-- projections: events a second, in this minute and the one before
SELECT projection, sum(events) / greatest(extract(epoch FROM max(until) - min(since)), 0.001)::float8
  FROM eventferry.statistics
 WHERE projection = ANY (%s) AND minute >= date_trunc('minute', clock_timestamp()) - interval '1 minute'
 GROUP BY projection
