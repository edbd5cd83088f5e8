-- bytes, stream: whether it keeps more than that beside its rows, where all goes that has more than
-- some 2,000 bytes
SELECT pg_relation_size(reltoastrelid) > %s
  FROM pg_class
 WHERE relnamespace = 'streams'::regnamespace AND relname = %s
