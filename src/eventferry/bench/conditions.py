"""Under which conditions was measured: what one needs to compare with another run."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Final, Self

import psycopg

from eventferry.bench.stage import Stage

SETTINGS: Final = ("fsync", "synchronous_commit", "shared_buffers", "max_wal_size")
"""Those of PostgreSQL that decide most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What was measured, with what, on what."""

    begun_at: datetime
    eventferry: str
    python: str
    psycopg: str
    """With its implementation: `binary` or `c`, which are fast, or `python`."""
    postgresql: Mapping[str, str]
    """Of the server of the `local` stores, and of that of the `shared` ones."""
    settings: Mapping[str, Mapping[str, str]]
    """The same way: those that decide most."""
    is_embedded: bool
    """Whether the server was started for it, behind a Unix socket."""
    cpus: int
    """How many this process may use."""
    machine: str
    rounds: int
    events: int

    @classmethod
    def of(cls, stage: Stage) -> Self:
        """Those of a stage, now."""
        servers = {"local": stage.local_server, "shared": stage.shared_server}
        found = {kind: _settings(url) for kind, url in servers.items()}
        return cls(
            begun_at=datetime.now(UTC),
            eventferry=version("eventferry"),
            python=platform.python_version(),
            psycopg=f"{psycopg.__version__} ({psycopg.pq.__impl__})",
            postgresql={kind: settings.pop("server_version") for kind, settings in found.items()},
            settings=found,
            is_embedded=stage.is_embedded,
            cpus=_cpus(),
            machine=f"{platform.system()} {platform.machine()}",
            rounds=stage.rounds,
            events=stage.events,
        )

    def __str__(self) -> str:
        servers = dict.fromkeys(self.postgresql.values())
        rounds = "1 round" if self.rounds == 1 else f"median of {self.rounds} rounds"
        return (
            f"{self.begun_at:%Y-%m-%d}: eventferry {self.eventferry}, Python {self.python}, "
            f"psycopg {self.psycopg}, PostgreSQL {' and '.join(servers)}, "
            f"{self.cpus} CPUs, {rounds}, {self.events:,} events"
        )


def _cpus() -> int:
    if hasattr(os, "sched_getaffinity"):  # not everywhere
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _settings(url: str) -> dict[str, str]:
    with psycopg.connect(url, autocommit=True) as conn:
        return {
            name: conn.execute("SELECT current_setting(%s)", (name,)).fetchall()[0][0]
            for name in ("server_version", *SETTINGS)
        }
