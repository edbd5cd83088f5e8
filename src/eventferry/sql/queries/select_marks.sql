-- $1 (the checkpoint's own event), $2, $3: as select_from, but what tells how far a page goes
SELECT position, id,
       CASE WHEN position = ($1::bigint[])[1] THEN 0 ELSE pg_column_size(data) + pg_column_size(metadata) END
  FROM {stream}
 WHERE position >= ($1::bigint[])[1] AND position <= ($2::bigint[])[1]
 ORDER BY position LIMIT $3::bigint
