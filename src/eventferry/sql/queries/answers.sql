-- id: what has been answered so far, for each stream
SELECT answer FROM eventferry.waits WHERE id = %s
