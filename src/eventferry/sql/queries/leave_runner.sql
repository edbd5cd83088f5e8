-- id: it has ended
DELETE FROM eventferry.runners WHERE id = %s
