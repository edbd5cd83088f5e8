-- All streams, oldest first: about how many events (as the planner knows it, else as they were
-- counted while they came), the bytes that they take with their indexes, may they be read?
SELECT streams.name, streams.owner, streams.description, streams.created_at,
       coalesce(CASE WHEN class.relpages > 0 AND class.reltuples >= 0
            THEN class.reltuples / class.relpages * (pg_relation_size(class.oid) / current_setting('block_size')::integer)
            ELSE pg_stat_get_live_tuples(class.oid) END, 0)::bigint AS events,
       pg_total_relation_size(class.oid) AS bytes,
       coalesce(has_table_privilege(class.oid, 'SELECT'), false) AS may_read
  FROM eventferry.streams
  LEFT JOIN pg_class AS class
    ON class.relnamespace = 'streams'::regnamespace AND class.relname = streams.name
 ORDER BY streams.number
