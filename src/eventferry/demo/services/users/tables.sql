-- The business data of service users: written in the same transaction as its events.
CREATE TABLE users (
    id         text PRIMARY KEY,
    email      text,
    events     integer NOT NULL DEFAULT 1
);
