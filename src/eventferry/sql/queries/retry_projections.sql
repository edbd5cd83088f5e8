-- all?, names: the names of those that had failed; their workers are woken when this commits.
-- The error stays to be seen until its event has been dealt with.
WITH retried AS (
    UPDATE eventferry.projections SET state = 'idle'
     WHERE state = 'failed' AND (%s OR name = ANY (%s))
    RETURNING name
)
SELECT name, pg_notify('eventferry', 'projection:' || name) FROM retried
