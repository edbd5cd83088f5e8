-- place of the last one. In the order of the page: positions are drawn above the sort.
INSERT INTO {stream} ({columns})
SELECT {columns} FROM pg_temp.eventferry_page WHERE place <= %s ORDER BY place
ON CONFLICT (id) DO NOTHING
