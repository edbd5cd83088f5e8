-- The streams of the store. The incarnation tells a re-created stream from the old one.
CREATE TABLE eventferry.streams (
    number      smallint PRIMARY KEY CHECK (number > 0),
    name        text NOT NULL UNIQUE,
    incarnation uuid NOT NULL DEFAULT gen_random_uuid(),
    owner       text,
    description text,
    created_at  timestamptz NOT NULL DEFAULT now()
);
