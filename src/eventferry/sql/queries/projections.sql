-- seconds without a heartbeat after which a run is dead; names
SELECT name, streams, state, attempts, error, traceback, failing_stream, failing_position, failing_event_id,
       failing_event_type, failed_at, began_horizon, began_head, next_attempt_at,
       CASE WHEN state = 'retrying'
            THEN greatest(0, extract(epoch FROM next_attempt_at - clock_timestamp()))::float8 END AS due_s,
       paused_at, paused_by, pause_reason, stops, kept_in, runner, heartbeat_at,
       coalesce(heartbeat_at > clock_timestamp() - make_interval(secs => %s), false) AS is_alive
  FROM eventferry.projections
 WHERE name = ANY (%s)
