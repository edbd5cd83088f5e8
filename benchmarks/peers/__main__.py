"""eventferry beside its peers: the same work, on the same PostgreSQL, in the same run.

python -m benchmarks.peers [--only NAME,…] [--lines LINE,…] [--rounds N] [--json PATH]
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.peers.library import chosen
from benchmarks.peers.lines import LINES, Result, Run
from eventferry.embedded import EmbeddedServer

# As it comes, so that what is committed is on the disk, but for room: no checkpoint in a round.
SETTINGS = {"max_connections": "200", "shared_buffers": "512MB", "max_wal_size": "8GB"}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--only", metavar="NAME,…", help="parts of the libraries' names")
    parser.add_argument("--lines", metavar="LINE,…", help=f"of {', '.join(LINES)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the results there")
    given = parser.parse_args()
    lines = given.lines.split(",") if given.lines else list(LINES)
    libraries = chosen(given.only)
    errors = Console(stderr=True)
    results: list[Result] = []
    with errors.status("installing") as status, tempfile.TemporaryDirectory() as folder:
        for library in libraries:
            status.update(f"installing {library.library} {library.version}")
            library.install()
        Path(folder).chmod(0o711)  # as root, PostgreSQL runs as another user
        with EmbeddedServer(Path(folder) / "pg", settings=SETTINGS) as server:
            for line in lines:

                def say(text: str, line: str = line) -> None:
                    status.update(f"{line}: {text}")

                run = Run(
                    server=server,
                    libraries=libraries,
                    rounds=given.rounds,
                    command=shlex.join(["python", "-m", "benchmarks.peers", *sys.argv[1:]]),
                    say=say,
                )
                results += LINES[line](run)
    Console(width=None if sys.stdout.isatty() else 110).print(table(results))
    if given.json:
        given.json.write_text(json.dumps([it.as_dict() for it in results], indent=1) + "\n")


def table(results: list[Result]) -> Table:
    """The results, the best ratio of each line first."""
    made = Table("line", "library", "value", "limit", "ratio", "committed", "lost", "doubled")
    for column in made.columns:
        column.no_wrap = True
    for column in made.columns[2:]:
        column.justify = "right"
    for line in dict.fromkeys(it.line for it in results):
        for it in sorted((it for it in results if it.line == line), key=_rank):
            values = (
                _shown(it.value, it.unit),
                _shown(it.limit, it.unit),
                _shown(it.ratio, "of limit"),
            )
            counts = (_shown(count) for count in (it.committed, it.lost, it.doubled))
            name = it.library.rpartition("/")[2]
            made.add_row(line, f"{name} {it.version}", *values, *counts)
        made.add_section()
    return made


def _rank(result: Result) -> float:
    """The best one first: of rates the highest, of what takes time or is lost the lowest."""
    score = result.value if result.ratio is None else result.ratio
    return -score if result.unit == "events/s" else score


def _shown(value: float | None, unit: str = "events") -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if unit.startswith("events") else f"{value:,.2f}"


if __name__ == "__main__":
    main()
