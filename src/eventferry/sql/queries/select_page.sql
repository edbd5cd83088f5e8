-- {events}: each with its bytes; {size}: the page ends with the event that fills it, so that what a
-- page takes is bounded, however large its events are. It has one event at least.
SELECT stream, {columns}
  FROM (SELECT *, sum(bytes) OVER (ORDER BY position {direction} ROWS UNBOUNDED PRECEDING) - bytes AS before
          FROM ({events}) AS event) AS page
 WHERE before < {size}
 ORDER BY position {direction}
