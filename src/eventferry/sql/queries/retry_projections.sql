-- all?, names: the names of those that had failed, or waited for their next attempt; their workers
-- are woken when this commits. The error stays to be seen until its event has been dealt with.
WITH retried AS (
    UPDATE eventferry.projections SET state = 'idle', attempts = 0, next_attempt_at = NULL
     WHERE state IN ('failed', 'retrying') AND (%s OR name = ANY (%s))
    RETURNING name
)
SELECT name, pg_notify('eventferry', 'projection:' || name) FROM retried
