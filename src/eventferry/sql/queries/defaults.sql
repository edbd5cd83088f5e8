-- What an event gets that names no source and no time.
SELECT coalesce((SELECT service FROM eventferry.store), current_user), statement_timestamp()
