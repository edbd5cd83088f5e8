"""Creates the service's own tables: `python create_tables.py`, once for each database."""

from pathlib import Path

import psycopg

from eventferry import load

with psycopg.connect(load().local_url) as conn:
    conn.execute(Path(__file__).with_name("tables.sql").read_bytes())
