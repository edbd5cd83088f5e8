-- {columns}, {values}: those given; :events: a JSON array of them, in their order; :entity_id and
-- :expected: the version that it must be at, NULL: any.
-- Fewer rows than events: it is at another one, an id is there already, or versions are not given
-- out here. As in append_next.sql, version order is position order.
INSERT INTO {stream} ({columns})
SELECT {values}
  FROM ROWS FROM (
           json_to_recordset(CAST(:events AS json)) AS (
               id uuid, type text, source text, entity_id text, version integer,
               data text, metadata text, occurred_at timestamptz
           )
       ) WITH ORDINALITY AS event (
           id, type, source, entity_id, version, data, metadata, occurred_at, place
       )
 WHERE CAST(:expected AS integer) IS NULL
    OR CAST(:expected AS integer) = (SELECT coalesce(max(version), 0) FROM {stream}
                                      WHERE entity_id = CAST(:entity_id AS text))
   AND (SELECT kind = 'local' FROM eventferry.store)
 ORDER BY place
ON CONFLICT DO NOTHING
