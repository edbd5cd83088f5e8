-- service: lets its workers look who waits
SELECT pg_notify('eventferry', 'waits:' || %s)
