-- horizon, head, name
UPDATE eventferry.projections SET began_horizon = %s, began_head = %s
 WHERE name = %s AND began_head IS NULL
