-- service; before: at, id (NULL: the latest); projection or NULL, who or NULL, action or NULL; how many
-- are looked at, how many at most are answered: the latest first.
-- The last one that was looked at is answered as well, wanted or not: there one can go on.
SELECT id, at, who, projection, action, reason, details, place, is_wanted
  FROM (SELECT *, row_number() OVER in_order AS place, lead(id) OVER in_order IS NULL AS is_last,
               service = %(service)s
           AND (%(projection)s::text IS NULL OR projection = %(projection)s::text)
           AND (%(who)s::text IS NULL OR who = %(who)s::text)
           AND (%(action)s::text IS NULL OR action = %(action)s::text) AS is_wanted
          FROM (SELECT * FROM eventferry.audit
                 WHERE (at, id) < (coalesce(%(at)s::timestamptz, 'infinity'), coalesce(%(id)s::bigint, 0))
                 ORDER BY at DESC, id DESC LIMIT %(look)s::bigint) AS line
        WINDOW in_order AS (ORDER BY at DESC, id DESC)) AS looked_at
 WHERE is_wanted OR is_last
 ORDER BY at DESC, id DESC LIMIT %(limit)s::bigint
