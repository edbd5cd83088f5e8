-- How many positions a session draws at once, and the last one that anybody has drawn.
SELECT seqcache, (SELECT head FROM eventferry.horizon('{}'))
  FROM pg_sequence
 WHERE seqrelid = 'eventferry.positions'::regclass
