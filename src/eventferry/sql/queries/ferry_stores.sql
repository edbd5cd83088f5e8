-- service, store that it ferries from: this store, and another one that a service of this name ferries from
SELECT this.id, other.store, other.projection
  FROM eventferry.store AS this
  LEFT JOIN eventferry.checkpoints AS other ON other.service = %s AND other.store <> %s
 LIMIT 1
