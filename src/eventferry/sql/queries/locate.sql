-- stream; ids: how many of the events are there, where the last one is, and which store and stream this is
SELECT count(*), max(position), (SELECT id FROM eventferry.store),
       (SELECT incarnation FROM eventferry.streams WHERE name = %s)
  FROM {stream} WHERE id = ANY (%s)
