-- projection; stream, position, id, type and entity of the event; attempts, error, traceback, fingerprint
INSERT INTO eventferry.parked_events (projection, stream, position, event_id, event_type, entity_id,
                                      attempts, error, traceback, fingerprint)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
