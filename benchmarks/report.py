"""Writes what was measured into docs/explanation/performance.md: tables, and bars as SVG.

    eventferry bench --json > bench.json
    python -m benchmarks.peers --json peers.json
    python -m benchmarks.report bench.json [peers.json]

Each table stands between two comments of the page, `<!-- bench -->` and `<!-- /bench -->`; what is
around them is written by hand. A plot is a file beside the page.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.bars import Bar, drawn

PAGE = Path(__file__).parent.parent / "docs" / "explanation" / "performance.md"
PLOT = "![Ratios to what PostgreSQL does without eventferry](performance.svg)"
PEERS_PLOT = "![Ratios to what each client does without its library](performance-peers.svg)"
Row = Mapping[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("bench", type=Path, help="what `eventferry bench --json` has said")
    parser.add_argument("peers", type=Path, nargs="?", help="what `python -m benchmarks.peers` has")
    parser.add_argument("--page", type=Path, default=PAGE)
    given = parser.parse_args()
    page: str = given.page.read_text()
    answer = json.loads(given.bench.read_text())
    if not answer["ok"]:
        raise SystemExit(f"that run has failed: {answer['errors']}")
    figures = answer["data"]["figures"]
    page = filled(page, "conditions", conditions(answer["data"]["conditions"]))
    page = filled(page, "bench", f"{PLOT}\n\n{table(figures)}")
    (given.page.parent / "performance.svg").write_text(plot(figures))
    if given.peers:
        results = json.loads(given.peers.read_text())
        page = filled(page, "peers", f"{PEERS_PLOT}\n\n{peers_table(results)}")
        page = filled(page, "versions", versions(results))
        (given.page.parent / "performance-peers.svg").write_text(peers_plot(results))
    given.page.write_text(page)


def filled(page: str, name: str, text: str) -> str:
    """The page, with the text between the marks of this name.

    Raises:
        ValueError: there are no such marks.
    """
    marks = re.compile(f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    if not marks.search(page):
        raise ValueError(f"the page has no <!-- {name} --> … <!-- /{name} -->")
    return marks.sub(lambda found: f"{found[1]}{text}\n{found[2]}", page)


def conditions(found: Row) -> str:
    """Under which conditions was measured."""
    settings = ", ".join(f"`{k} = {v}`" for k, v in found["settings"]["local"].items())
    servers = " and ".join(dict.fromkeys(found["postgresql"].values()))
    where = "embedded, on a Unix socket" if found["is_embedded"] else "given by its URL"
    return (
        f"Measured on {found['begun_at'][:10]}: eventferry {found['eventferry']}, Python "
        f"{found['python']}, psycopg {found['psycopg']}, PostgreSQL {servers} ({where}; {settings}), "
        f"{found['cpus']} CPUs, {found['machine']}. Medians of {found['rounds']} rounds, "
        f"{found['events']:,} events to catch up with."
    )


def table(figures: Sequence[Row]) -> str:
    """What was measured, a line each; what is missed stands there as it is."""
    rows = []
    for figure in figures:
        is_ratio = figure["limit"] is not None
        ratio = f"{figure['value']:.2f}" if is_ratio else ""
        rows.append(
            (
                figure["key"],
                figure["what"],
                f"{shown(figure['ours'])} {figure['unit']}",
                f"{shown(figure['limit'])}: {figure['limit_is']}" if is_ratio else "",
                f"**{ratio}**" if ratio and figure["is_met"] else ratio,
                target(figure),
                "yes" if figure["is_met"] else "no",
            )
        )
    notes = "".join(f"\n\n{f['key']}, {f['what']}: {f['note']}." for f in figures if f["note"])
    return markdown(("", "figure", "eventferry", "limit", "ratio", "target", "met"), rows) + notes


def peers_table(results: Sequence[Row]) -> str:
    """The libraries beside each other, line by line; the best ratio of a line is bold."""
    rows = []
    for line in dict.fromkeys(row["line"] for row in results):
        there = [row for row in results if row["line"] == line]
        best = min(there, key=rank)
        for row in sorted(there, key=rank):
            value = f"{shown(row['value'])} {row['unit']}"
            ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
            wrong = counted(row["lost"]), counted(row["doubled"])
            what = row["what"] if row is best else ""
            if row is best:
                value, ratio = f"**{value}**", f"**{ratio}**" if ratio else ""
            rows.append((what, named(row), value, ratio, *wrong))
    return markdown(("", "library", "value", "of its client's", "lost", "doubled"), rows)


def versions(results: Sequence[Row]) -> str:
    """Of each library: its version, its client, what it promises, how it was used."""
    first = {row["library"]: row for row in reversed(results)}
    rows = [
        (named(row), row["version"], row["client"], row["guarantee"], row["how"])
        for row in reversed(first.values())
    ]
    return markdown(("library", "version", "client", "promises", "used by"), rows)


def plot(figures: Iterable[Row]) -> str:
    """The ratios: each bar is eventferry, the line at its end what PostgreSQL alone does."""
    bars = [
        Bar(
            label=f"{figure['key']}  {figure['what']}",
            value=figure["value"],
            text=f"{figure['value']:.2f}",
            mark=figure["target"],
            is_ours=True,
        )
        for figure in figures
        if figure["limit"] is not None and figure["better"] == "more"
    ]
    return drawn("eventferry, of what PostgreSQL does without it", bars, end=1.0)


def peers_plot(results: Sequence[Row]) -> str:
    """The ratios of the lines that have one, the libraries beside each other."""
    with_ratio = [row for row in results if row["ratio"] is not None and row["unit"] == "events/s"]
    bars = [
        Bar(
            label=named(row),
            value=row["ratio"],
            text=f"{row['ratio']:.2f}",
            group=line,
            is_ours=row["library"] == "eventferry",
        )
        for line in dict.fromkeys(row["what"] for row in with_ratio)
        for row in sorted((row for row in with_ratio if row["what"] == line), key=rank)
    ]
    return drawn("Each library, of what its own client does without it", bars, end=1.0)


def rank(row: Row) -> float:
    """The best one first: of rates the highest, of what takes time or is lost the lowest."""
    score = float(row["value"] if row["ratio"] is None else row["ratio"])
    return -score if row["unit"] == "events/s" else score


def named(row: Row) -> str:
    return str(row["library"]).rpartition("/")[2]


def target(figure: Row) -> str:
    better = figure["better"] == "more"
    return f"≥ {figure['target']:.2f}" if better else f"≤ {figure['target']:g}"


def counted(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def shown(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 or number == int(number) else f"{number:.2f}"


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


if __name__ == "__main__":
    main()
