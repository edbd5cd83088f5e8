-- entity_id: its newest version (0: none), and the kind of the store
SELECT coalesce(max(version), 0), (SELECT kind FROM eventferry.store) FROM {stream} WHERE entity_id = %s
