"""A store, spoken to by psycopg; `eventferry.store._foreign` is for other drivers."""
