-- $1, $2: after which position and before which one, $3: how many events at most
SELECT {label}::text AS stream, {columns}
  FROM {stream}
 WHERE position > $1::bigint AND position < $2::bigint
 ORDER BY position {direction} LIMIT $3::bigint
