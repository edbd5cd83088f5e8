-- name, kind, environment, streams, background, queue: the kind and streams that it has run with
WITH known AS (
    INSERT INTO eventferry.projections AS known (name, kind, environment, streams, background, queue)
    VALUES (%s, %s, %s, %s, %s, %s)
    ON CONFLICT (name) DO UPDATE
       SET environment = excluded.environment, background = excluded.background, queue = excluded.queue
    RETURNING name, kind, streams
)
SELECT kind, streams, CASE WHEN kind = 'consuming' THEN eventferry.count_batches(name) END FROM known
