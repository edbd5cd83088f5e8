-- {events}: what there is to look at, by look_at; $3: how many of them are looked at, $4: how many at
-- most are answered; $5: of which types, $6: of which entity, $7, $8: recorded from when on, and before
-- when, $9: with metadata like one of which patterns. NULL: whichever.
-- The last event that was looked at is answered as well, wanted or not: there one can go on.
-- Large JSON is left where it is.
SELECT stream, position, id, type, source, entity_id, version, occurred_at, recorded_at,
       CASE WHEN pg_column_size(data) <= {size} THEN data END,
       CASE WHEN pg_column_size(metadata) <= {size} THEN metadata END,
       place, is_wanted
  FROM (SELECT *, row_number() OVER in_order AS place, lead(position) OVER in_order IS NULL AS is_last,
               ($5::text[] IS NULL OR type = ANY ($5::text[]))
           AND ($6::text IS NULL OR entity_id = $6::text)
           AND ($7::timestamptz IS NULL OR recorded_at >= $7::timestamptz)
           AND ($8::timestamptz IS NULL OR recorded_at < $8::timestamptz)
           AND ($9::text[] IS NULL OR CASE WHEN pg_column_size(metadata) <= {size}
                                           THEN metadata::text LIKE ANY ($9::text[]) END) AS is_wanted
          FROM (SELECT * FROM ({events}) AS event
                 ORDER BY position {direction} LIMIT $3::bigint) AS event
        WINDOW in_order AS (ORDER BY position {direction})) AS looked_at
 WHERE is_wanted OR is_last
 ORDER BY position {direction} LIMIT $4::bigint
