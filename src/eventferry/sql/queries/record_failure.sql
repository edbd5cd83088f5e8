-- name, error type, error, traceback, stream, position, id, type and entity of the event; how many
-- attempts there are, the first pause and the longest one in seconds, a factor from 0.5 to 1; how
-- many failures are kept (of last attempts, and of others).
-- The attempts are counted per event. Returns the new state, and the seconds to the next attempt.
WITH new AS (
    SELECT name, known.failing_event_id,
           CASE WHEN known.failing_event_id IS NOT DISTINCT FROM given.event_id AND known.error IS NOT NULL
                THEN known.attempts ELSE 0 END + 1 AS attempt,
           given.*
      FROM eventferry.projections AS known
      JOIN (VALUES (%s, %s, %s, %s, %s::text, %s::bigint, %s::uuid, %s::text, %s::text))
           AS given (projection, error_type, said, trace, stream, position, event_id, event_type, entity_id)
        ON known.name = given.projection
), policy AS (
    SELECT new.*, attempt >= allowed AS gave_up,
           make_interval(secs => least(longest, first * 2.0 ^ least(attempt - 1, 30)) * factor) AS pause
      FROM new, (VALUES (%s::integer, %s::float8, %s::float8, %s::float8)) AS p (allowed, first, longest, factor)
), kept AS (
    INSERT INTO eventferry.failures (projection, attempt, stream, position, event_id, event_type, entity_id,
                                     error_type, error, traceback, gave_up)
    SELECT projection, attempt, stream, position, event_id, event_type, entity_id, error_type, said, trace, gave_up
      FROM policy
    RETURNING id
), trimmed AS (
    DELETE FROM eventferry.failures AS old
     WHERE old.id IN (SELECT id FROM eventferry.failures
                       WHERE (projection, gave_up) = (SELECT projection, gave_up FROM policy)
                       ORDER BY id DESC OFFSET %s::integer - 1)
)
UPDATE eventferry.projections AS known
   SET state = CASE WHEN gave_up THEN 'failed' ELSE 'retrying' END,
       next_attempt_at = CASE WHEN NOT gave_up THEN clock_timestamp() + pause END,
       error = said, traceback = trace, failing_stream = policy.stream, failing_position = policy.position,
       failing_event_id = policy.event_id, failing_event_type = policy.event_type,
       failed_at = clock_timestamp(), attempts = policy.attempt
  FROM policy
 WHERE known.name = policy.projection AND known.state <> 'deleted'
RETURNING known.state, known.attempts, CASE WHEN NOT gave_up THEN extract(epoch FROM pause)::float8 END
