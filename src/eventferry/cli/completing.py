"""What a shell may complete beside commands and options: the names in the configuration.

No database is asked, and nothing heavy is imported. Whatever is raised here is kept from the shell
(`app`): a configuration that lacks or is broken completes nothing, and says so to a command.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import typer

from eventferry import config_file

KINDS = ("producing", "consuming")
Words = list[tuple[str, str]]
"""What a word may be, each with what some shells show beside it."""


def projections(context: typer.Context) -> Words:
    """Projections: those of the kind that the command is about, and not named yet."""
    parent = context.parent.info_name if context.parent else None
    kinds = [parent] if parent in KINDS else KINDS
    named = context.params.get("names") or ()
    return [
        (name, f"{kind} {', '.join(streams(table))}")
        for kind, name, table in _declared(context)
        if kind in kinds and name not in named
    ]


def stream_names(context: typer.Context) -> Words:
    """Streams of which the configuration knows."""
    used: dict[str, list[str]] = {}
    for _, name, table in _declared(context):
        for stream in streams(table):
            used.setdefault(stream, []).append(name)
    return [(stream, ", ".join(names)) for stream, names in used.items()]


def queues(context: typer.Context) -> Words:
    """Queues of on-demand projections."""
    found: dict[str, list[str]] = {}
    for _, name, table in _declared(context):
        queue = table.get("queue", "domain-events")
        if isinstance(queue, str) and table.get("background_process") is not True:
            found.setdefault(queue, []).append(name)
    return [(queue, ", ".join(names)) for queue, names in found.items()]


def streams(table: dict[str, Any]) -> list[str]:
    """The streams in a projection's table."""
    several = table.get("stream_names")
    names = several if isinstance(several, list) else [table.get("stream_name")]
    names = [*names, table.get("shared_stream")]
    return [name for name in dict.fromkeys(map(_text, names)) if name]


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _declared(context: typer.Context) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each projection's kind, name and table, as far as the file can be read."""
    given = context.params.get("config_path") or context.find_root().params.get("config_path")
    table = config_file.parse(config_file.find(given, os.environ))
    for kind in KINDS:
        named = table.get(kind) if isinstance(table, dict) else None
        for name, one in named.items() if isinstance(named, dict) else ():
            if isinstance(one, dict):
                yield kind, name, one
