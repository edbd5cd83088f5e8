-- name: whether it was paused; its workers are woken. One that has paused itself had failed: whoever
-- resumes it has mended that.
WITH resumed AS (
    UPDATE eventferry.projections
       SET paused_at = NULL, paused_by = NULL, pause_reason = NULL,
           state = CASE WHEN paused_by = 'eventferry' AND state = 'failed' THEN 'idle' ELSE state END,
           attempts = CASE WHEN paused_by = 'eventferry' THEN 0 ELSE attempts END
     WHERE name = %s AND paused_at IS NOT NULL
    RETURNING name
)
SELECT name, pg_notify('eventferry', 'projection:' || name) FROM resumed
