CREATE TABLE IF NOT EXISTS invoices (
    id           uuid PRIMARY KEY,
    order_id     text NOT NULL UNIQUE,
    email        text NOT NULL,
    amount_cents integer NOT NULL,
    paid_at      timestamptz
);

SELECT eventferry.create_stream('invoices-stream', 'What is owed, and what is paid');
