-- name: whether it was paused; its workers are woken
WITH resumed AS (
    UPDATE eventferry.projections
       SET paused_at = NULL, paused_by = NULL, pause_reason = NULL
     WHERE name = %s AND paused_at IS NOT NULL
    RETURNING name
)
SELECT name, pg_notify('eventferry', 'projection:' || name) FROM resumed
