-- service, projection, stream, store, incarnation, position, event id, replay_until, held?
INSERT INTO eventferry.checkpoints (service, projection, stream, store, incarnation, position, event_id, replay_until, held)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
