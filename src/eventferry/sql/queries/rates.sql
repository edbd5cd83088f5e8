-- seconds, projections: events a second, in this minute and the one before; who has said nothing for
-- so many seconds has done nothing since
SELECT projection,
       sum(events) / greatest(extract(epoch FROM
           CASE WHEN max(until) > clock_timestamp() - make_interval(secs => %s) THEN max(until)
                ELSE clock_timestamp() END - min(since)), 0.001)::float8
  FROM eventferry.statistics
 WHERE projection = ANY (%s) AND minute >= date_trunc('minute', clock_timestamp()) - interval '1 minute'
 GROUP BY projection
