-- runner, alive?, name; runner, alive?: a run says that it goes on, or takes back what it has said
UPDATE eventferry.projections
   SET runner = %s, heartbeat_at = CASE WHEN %s THEN clock_timestamp() END
 WHERE name = %s AND (runner = %s OR %s)
