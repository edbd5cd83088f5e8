-- The streams that we may read, oldest first; of each, whether it has an index on the correlation of
-- its events, which somebody has made (ADR 0016).
SELECT streams.name,
       EXISTS (SELECT FROM pg_index AS made
                WHERE made.indrelid = class.oid AND made.indisvalid AND made.indpred IS NULL
                  AND pg_get_indexdef(made.indexrelid, 1, true) = '(metadata ->> ''correlation_id''::text)')
  FROM eventferry.streams
  JOIN pg_class AS class ON class.relnamespace = 'streams'::regnamespace AND class.relname = streams.name
 WHERE has_table_privilege(class.oid, 'SELECT')
 ORDER BY streams.number
