"""Writes down what the migrations make: a local store with one stream, as `tests/schema.sql`.

    python tools/schema.py            writes it
    python tools/schema.py --check    exits 1 and shows a diff if it is out of date

It is committed, so that a review sees what a migration does. The text comes from the pg_dump of the
embedded PostgreSQL, less what differs from version to version of pg_dump, and from run to run.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from eventferry import EventStore, migrate
from eventferry.embedded import EmbeddedServer

FILE = Path(__file__).resolve().parent.parent / "tests" / "schema.sql"
STREAM = "users-stream"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--check", action="store_true", help="write nothing, exit 1 on a difference"
    )
    check = parser.parse_args().check
    with (
        tempfile.TemporaryDirectory(prefix="eventferry-") as folder,
        EmbeddedServer(folder) as server,
    ):
        wanted = schema(server, server.create_database("users"))
    found = FILE.read_text() if FILE.exists() else ""
    if wanted == found:
        return 0
    if not check:
        FILE.write_text(wanted)
        print(f"Generated {FILE.relative_to(FILE.parent.parent)}")
        return 0
    sys.stdout.writelines(difference(found, wanted))
    return 1


def schema(server: EmbeddedServer, url: str) -> str:
    """The schema of the store that an empty database becomes."""
    migrate(url, kind="local", service="users")
    with EventStore(url) as store:
        store.create_stream(STREAM)
    dump = [str(server.programs / "pg_dump"), "--schema-only", "--no-owner", url]
    zone = os.environ | {"PGTZ": "UTC"}  # or the times in it would be this machine's
    done = subprocess.run(dump, stdout=subprocess.PIPE, text=True, check=True, env=zone)
    return cleaned(done.stdout)


def cleaned(dump: str) -> str:
    r"""The dump without versions, session settings, \restrict's random keys, and rulers.

    And without the names of NOT NULL constraints, which have none before PostgreSQL 18.

    >>> cleaned("--\n-- Dumped by pg_dump version 18.1\n\nSET a = b;\n\n\n\\restrict x\nCREATE;\n")
    'CREATE;\n'
    """
    noise = re.compile(
        r"--$|-- (Dumped|PostgreSQL database dump)|\\(un)?restrict|SET |SELECT pg_cat"
    )
    lines = [line for line in dump.splitlines() if not noise.match(line)]
    text = re.sub(r" CONSTRAINT \w+ NOT NULL", " NOT NULL", "\n".join(lines))
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def difference(found: str, wanted: str) -> list[str]:
    """What is to change in the file, as a diff."""
    lines = found.splitlines(keepends=True), wanted.splitlines(keepends=True)
    return list(difflib.unified_diff(*lines, f"{FILE.name} (found)", f"{FILE.name} (wanted)"))


if __name__ == "__main__":
    sys.exit(main())
