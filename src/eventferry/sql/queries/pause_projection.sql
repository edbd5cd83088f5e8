-- who, reason, name; its workers are woken, to see it
WITH paused AS (
    UPDATE eventferry.projections
       SET paused_at = clock_timestamp(), paused_by = %s, pause_reason = %s
     WHERE name = %s
    RETURNING name
)
SELECT name, pg_notify('eventferry', 'projection:' || name) FROM paused
