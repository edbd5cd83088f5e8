-- Where a checkpoint has been: what it still has in common with a store that has lost its end.
-- They outlive it, as a reset puts another in its place.
-- Kept every minute for a quarter of an hour, every hour for two days, then every day for a year.
CREATE TABLE eventferry.marks (
    service    text        NOT NULL,
    projection text        NOT NULL,
    stream     text        NOT NULL,
    store      uuid        NOT NULL,
    position   bigint      NOT NULL,
    event_id   uuid        NOT NULL,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (service, projection, stream, store, position)
);
CREATE FUNCTION eventferry.keep_mark(
    service text, projection text, stream text, store uuid, "position" bigint, event_id uuid
) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO eventferry.marks VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING;
    DELETE FROM eventferry.marks AS mark
     USING (SELECT aged.position,
                   row_number() OVER (PARTITION BY unit, date_trunc(unit, at) ORDER BY at) AS place
              FROM eventferry.marks AS aged,
                   LATERAL (VALUES (CASE WHEN at > clock_timestamp() - interval '2 days'
                                         THEN 'hour' ELSE 'day' END)) AS units (unit)
             WHERE (aged.service, aged.projection, aged.stream, aged.store) = ($1, $2, $3, $4)) AS placed
     WHERE (mark.service, mark.projection, mark.stream, mark.store) = ($1, $2, $3, $4)
       AND mark.position = placed.position
       AND (at < clock_timestamp() - interval '1 year'
            OR at < clock_timestamp() - interval '15 minutes' AND place > 1);
$$;
