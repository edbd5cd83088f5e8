-- Events a second, for the map; NULL: older code has said so, which does not know.
ALTER TABLE eventferry.reports ADD COLUMN rate float8;
