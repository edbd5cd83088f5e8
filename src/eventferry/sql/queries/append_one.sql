-- {columns}, {values}: those given. No row: its id is there already.
INSERT INTO {stream} ({columns}) VALUES ({values}) ON CONFLICT DO NOTHING
