-- service, projection, stream, store, incarnation, position, event id, replay_until, held?
-- Batches before this one have ended, or are forgiven: what has died at another place tells nothing.
INSERT INTO eventferry.checkpoints (service, projection, stream, store, incarnation, position, event_id, replay_until, held, begun)
SELECT given.*, eventferry.batches_begun(projection)
  FROM (VALUES (%s, %s, %s, %s::uuid, %s::uuid, %s::bigint, %s::uuid, %s::bigint, %s::boolean))
       AS given (service, projection, stream, store, incarnation, position, event_id, replay_until, held)
