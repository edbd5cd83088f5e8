-- service and kind of the store
SELECT service, kind FROM eventferry.store
