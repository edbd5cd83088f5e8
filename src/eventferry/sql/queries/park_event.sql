-- projection; stream, position, id, type and entity of the event; attempts, error, traceback
INSERT INTO eventferry.parked_events (projection, stream, position, event_id, event_type, entity_id,
                                      attempts, error, traceback)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
