-- entity_id: its newest version; 0: none
SELECT coalesce(max(version), 0) FROM {stream} WHERE entity_id = %s
