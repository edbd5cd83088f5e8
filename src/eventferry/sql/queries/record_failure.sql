-- error, traceback, stream, position, id and type of the event; its id again; the projection's name.
-- The attempts are counted per event.
UPDATE eventferry.projections
   SET state = 'failed', error = %s, traceback = %s, failing_stream = %s, failing_position = %s,
       failing_event_id = %s, failing_event_type = %s, failed_at = clock_timestamp(),
       attempts = CASE WHEN failing_event_id = %s THEN attempts ELSE 0 END + 1
 WHERE name = %s
