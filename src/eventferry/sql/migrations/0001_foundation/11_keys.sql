-- The first key of a stream's markers: 16 bits that spell "EF" before the stream's number.
CREATE FUNCTION eventferry.marker_key(number smallint) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (17734 << 16) + number;

-- The lock of a stream's sleepers: (this, 0).
CREATE FUNCTION eventferry.sleeper_key(number smallint) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (17735 << 16) + number;
