-- name: it is kept as deleted, so that nobody brings it back by starting it
UPDATE eventferry.projections
   SET state = 'deleted', error = NULL, traceback = NULL, failing_stream = NULL, failing_position = NULL,
       failing_event_id = NULL, failing_event_type = NULL, failed_at = NULL, next_attempt_at = NULL,
       attempts = 0, paused_at = NULL, paused_by = NULL, pause_reason = NULL
 WHERE name = %s
