-- All streams, oldest first.
SELECT name, number, incarnation, owner, description, created_at FROM eventferry.streams ORDER BY number
