-- names: their workers look at them at once
SELECT pg_notify('eventferry', 'projection:' || name) FROM unnest(%s::text[]) AS name
