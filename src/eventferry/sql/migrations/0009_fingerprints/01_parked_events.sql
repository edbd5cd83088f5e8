-- Which parked events have failed alike (fingerprint.py); NULL: it waits behind another one, or was
-- parked by older code.
ALTER TABLE eventferry.parked_events ADD COLUMN fingerprint text;
CREATE INDEX parked_alike ON eventferry.parked_events (fingerprint, projection, position, stream)
    INCLUDE (parked_at);
