-- What service mail does about events. Nothing here keeps an event from being handled twice:
-- no unique key on event_id. And a serial is not rolled back: what is missing in it has been.
CREATE TABLE mails (
    number     bigserial PRIMARY KEY,
    event_id   uuid NOT NULL,
    user_id    text,
    recipient  text NOT NULL,
    subject    text NOT NULL,
    handled_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
