-- id: this wait is over, and so are those whose process has died
DELETE FROM eventferry.waits WHERE id = %s OR until < clock_timestamp() - interval '1 minute'
