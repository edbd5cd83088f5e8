-- service, projection, stream, store, incarnation, position, event_id
INSERT INTO eventferry.checkpoints (service, projection, stream, store, incarnation, position, event_id)
VALUES (%s, %s, %s, %s, %s, %s, %s)
ON CONFLICT DO NOTHING
