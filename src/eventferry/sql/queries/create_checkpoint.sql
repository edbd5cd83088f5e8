-- service, projection, stream, store, incarnation, position, event_id, replay_until
INSERT INTO eventferry.checkpoints (service, projection, stream, store, incarnation, position, event_id, replay_until)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT DO NOTHING
