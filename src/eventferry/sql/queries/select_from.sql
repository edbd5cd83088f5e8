-- {bytes}: nothing, or what select_page counts; {place}: the stream's, from 1; $1: of each stream its
-- checkpoint's own event, which takes nothing of the page, $2: up to where, $3: limit.
-- By number, as hundreds of branches take psycopg longer to look through than the database to read.
SELECT {label}::text AS stream, {columns} {bytes}
  FROM {stream}
 WHERE position >= ($1::bigint[])[{place}] AND position <= ($2::bigint[])[{place}]
 ORDER BY position LIMIT $3::bigint
