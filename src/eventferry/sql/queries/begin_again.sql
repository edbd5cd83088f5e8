-- name: as if it had never run; its workers are woken
WITH begun AS (
    UPDATE eventferry.projections
       SET state = 'idle', error = NULL, traceback = NULL, failing_stream = NULL, failing_position = NULL,
           failing_event_id = NULL, failing_event_type = NULL, failed_at = NULL, next_attempt_at = NULL,
           attempts = 0
     WHERE name = %s
    RETURNING name
)
SELECT name, pg_notify('eventferry', 'projection:' || name) FROM begun
