-- :entity_id: its newest version (0: none), and the kind of the store
SELECT CAST(json_build_array(coalesce(max(version), 0), (SELECT kind FROM eventferry.store)) AS text)
  FROM {stream}
 WHERE entity_id = CAST(:entity_id AS text)
