-- bytes, streams: whether they keep more than that beside their rows, where all goes that has more than
-- some 2,000 bytes
SELECT coalesce(sum(pg_relation_size(reltoastrelid)), 0) > %s
  FROM pg_class
 WHERE relnamespace = 'streams'::regnamespace AND relname = ANY (%s)
