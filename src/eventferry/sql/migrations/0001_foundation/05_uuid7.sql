-- A UUIDv7 (RFC 9562) on every PostgreSQL from 15 on: 48 bits of milliseconds, the rest random.
CREATE FUNCTION eventferry.uuid7() RETURNS uuid
LANGUAGE sql VOLATILE PARALLEL SAFE
BEGIN ATOMIC
    SELECT encode(
        set_bit(set_bit(
            overlay(
                uuid_send(gen_random_uuid())
                PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
                FROM 1 FOR 6),
            52, 1), 53, 1),      -- version 4 becomes 7; the variant is the same
        'hex')::uuid;
END;
