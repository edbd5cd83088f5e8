-- all?, names: the names of those that had failed, or waited for their next attempt; their workers
-- are woken when this commits. The error stays to be seen until its event has been dealt with.
-- One that has paused itself goes on; what a person has paused stays so.
WITH retried AS (
    UPDATE eventferry.projections
       SET state = 'idle', attempts = 0, next_attempt_at = NULL,
           paused_at = CASE WHEN paused_by <> 'eventferry' THEN paused_at END,
           pause_reason = CASE WHEN paused_by <> 'eventferry' THEN pause_reason END,
           paused_by = nullif(paused_by, 'eventferry')
     WHERE state IN ('failed', 'retrying') AND (%s OR name = ANY (%s))
    RETURNING name, paused_at
), freed AS (
    UPDATE eventferry.checkpoints SET held = false
      FROM retried WHERE projection = name AND paused_at IS NULL AND held
)
SELECT name, pg_notify('eventferry', 'projection:' || name) FROM retried
