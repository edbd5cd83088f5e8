-- The streams, and what of each is not as `create_stream` has made it: whether it has a table, whether
-- that is a partition, the triggers that it lacks, those that do not fire for everybody; may it be read?
SELECT streams.number, streams.name, class.oid IS NOT NULL AS has_table,
       EXISTS (SELECT FROM pg_inherits
                WHERE inhrelid = class.oid AND inhparent = 'eventferry.events'::regclass) AS is_attached,
       ARRAY(SELECT wanted.name FROM unnest('{mark,refuse_change}'::text[]) AS wanted (name)
              WHERE NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = class.oid AND tgname = wanted.name)) AS missing,
       ARRAY(SELECT tgname::text FROM pg_trigger
              WHERE tgrelid = class.oid AND tgname IN ('mark', 'refuse_change') AND tgenabled <> 'A'
              ORDER BY tgname) AS not_always,
       coalesce(has_table_privilege(class.oid, 'SELECT'), false) AS may_read
  FROM eventferry.streams
  LEFT JOIN pg_class AS class
    ON class.relnamespace = 'streams'::regnamespace AND class.relname = streams.name
 ORDER BY streams.number
