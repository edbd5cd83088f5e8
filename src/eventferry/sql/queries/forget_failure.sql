-- name
UPDATE eventferry.projections
   SET error = NULL, traceback = NULL, failing_stream = NULL, failing_position = NULL,
       failing_event_id = NULL, failing_event_type = NULL, failed_at = NULL, attempts = 0
 WHERE name = %s AND state <> 'failed'
