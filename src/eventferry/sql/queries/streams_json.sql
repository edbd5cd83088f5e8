-- All streams, oldest first.
SELECT CAST(to_json(stream) AS text)
  FROM (SELECT name, number, incarnation, owner, description, created_at
          FROM eventferry.streams) AS stream
 ORDER BY number
