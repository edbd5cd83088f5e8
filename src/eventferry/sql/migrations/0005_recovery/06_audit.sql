-- What people, and policies, have done to projections; written in the transaction that does it.
CREATE TABLE eventferry.audit (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    who        text        NOT NULL,
    service    text        NOT NULL,
    projection text        NOT NULL,
    action     text        NOT NULL,
    reason     text,
    details    jsonb       NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_of_projection ON eventferry.audit (service, projection, id);
