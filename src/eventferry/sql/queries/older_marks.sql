-- service, projection: where it has been, by stream, the latest first
SELECT stream, position, event_id
  FROM (SELECT service, projection, stream, position, event_id FROM eventferry.checkpoints
        UNION
        SELECT service, projection, stream, position, event_id FROM eventferry.marks) AS marks
 WHERE service = %s AND projection = %s AND position > 0
 ORDER BY stream, position DESC
