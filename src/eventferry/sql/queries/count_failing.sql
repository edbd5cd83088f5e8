-- projection, error type, seconds: how many entities have failed for good like this of late
SELECT count(DISTINCT (stream, coalesce(entity_id, event_id::text)))
  FROM eventferry.failures
 WHERE projection = %s AND error_type = %s AND gave_up
   AND failed_at > clock_timestamp() - make_interval(secs => %s)
