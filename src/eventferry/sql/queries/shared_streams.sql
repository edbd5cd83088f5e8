-- names: of each, whether the stream is there, whether we may append to it (or create it, where it is
-- not), and who we are
SELECT wanted.name, stream.name IS NOT NULL,
       CASE WHEN stream.name IS NOT NULL
            THEN has_any_column_privilege(format('streams.%%I', stream.name), 'INSERT')
            ELSE has_table_privilege('eventferry.streams', 'INSERT')
                 AND has_schema_privilege('streams', 'CREATE')
                 -- only its owner can attach a partition
                 AND pg_has_role((SELECT relowner FROM pg_class WHERE oid = 'eventferry.events'::regclass), 'USAGE')
       END,
       current_user::text
  FROM unnest(%s::text[]) AS wanted (name)
  LEFT JOIN eventferry.streams AS stream USING (name)
