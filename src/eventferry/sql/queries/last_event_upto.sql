-- position: the last event at or before it
SELECT position, id FROM {stream} WHERE position <= %s ORDER BY position DESC LIMIT 1
