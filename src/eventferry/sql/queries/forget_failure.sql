-- name, the event that had failed; whether it goes on even if that was for good
UPDATE eventferry.projections
   SET state = 'idle', error = NULL, traceback = NULL, failing_stream = NULL, failing_position = NULL,
       failing_event_id = NULL, failing_event_type = NULL, failed_at = NULL, next_attempt_at = NULL,
       attempts = 0
 WHERE name = %s AND failing_event_id IS NOT DISTINCT FROM %s
   AND (state IN ('idle', 'retrying') OR state = 'failed' AND %s)
