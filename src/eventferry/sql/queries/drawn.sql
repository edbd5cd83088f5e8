-- How many positions have been drawn in the store.
SELECT head FROM eventferry.horizon('{}')
