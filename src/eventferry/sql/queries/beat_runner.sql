-- version; id, host, pid, command, projections, version: a process says that it is there; whether it
-- has been asked to end
WITH seen AS (
    INSERT INTO eventferry.versions AS known (version) VALUES (%s)
    ON CONFLICT (version) DO UPDATE SET last_at = clock_timestamp()
     WHERE known.last_at < clock_timestamp() - interval '1 hour'
)
INSERT INTO eventferry.runners (id, host, pid, command, projections, version)
VALUES (%s, %s, %s, %s, %s, %s)
ON CONFLICT (id) DO UPDATE SET seen_at = clock_timestamp()
RETURNING asked_at IS NOT NULL
