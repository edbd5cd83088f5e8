-- $1: a correlation, $2: how many events at most; where there is an index on it (ADR 0016)
SELECT {label}::text AS stream, position, id, type, source, entity_id, version, occurred_at, recorded_at,
       CASE WHEN pg_column_size(data) <= {size} THEN data END,
       CASE WHEN pg_column_size(metadata) <= {size} THEN metadata END
  FROM {stream}
 WHERE metadata ->> 'correlation_id' = $1::text LIMIT $2::bigint
