"""What a dashboard knows: its connections, and one look at everything, which all viewers share.

A look is taken when somebody wants one and the last is older than `Settings.look_s`. So it costs
the stores the same for one open dashboard as for ten, and nothing while none is open.

A store that is away is no reason to be away oneself: the look says so, and the pages show what the
other one knows.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf
from typing import Any

import psycopg
from psycopg.rows import class_row

from eventferry import sql
from eventferry.config import Config
from eventferry.connection import is_outage
from eventferry.dashboard.line import Lines
from eventferry.dashboard.redaction import Redaction
from eventferry.dashboard.settings import Settings
from eventferry.errors import EventFerryError
from eventferry.logline import first_line
from eventferry.pools import Pools
from eventferry.projection import Projection
from eventferry.runner import Runner, runners
from eventferry.status import ProjectionStatus, status

AGAIN_S = 10.0
"""After so long, a store that was away is asked again whether it is there."""
BESIDE = 3
"""A page that asks the stores by itself, again and again, is content with a look so many times as
old beside it."""
ANSWER_S = 10.0
"""A look that has no answer by then has failed."""
CONNECTIONS = 4
OUTCOMES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a service last said of a projection, in the shared store."""

    service: str
    projection: str
    kind: str
    environment: str
    streams: list[str]
    shared_stream: str | None
    mode: str
    state: str
    lag: int | None
    behind_s: float | None
    rate: float | None
    """Events a second; None: its code is too old to say so."""
    error: str | None
    version: str
    age_s: float
    """How long ago it said so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How everything is, at one moment."""

    number: int
    at: datetime
    projections: tuple[ProjectionStatus, ...] = ()
    """Of this service."""
    reports: tuple[Report, ...] = ()
    """Of all services, this one too."""
    runners: tuple[Runner, ...] = ()
    """The processes of this service, and those that have died within a day."""
    away: tuple[str, ...] = ()
    """What can't be seen, and why, in words."""

    @property
    def failed(self) -> int:
        """Projections of this service that stand still until they are retried."""
        return sum(p.state == "failed" for p in self.projections)

    def find(self, name: str) -> ProjectionStatus | None:
        """A projection of this service."""
        return next((p for p in self.projections if p.name == name), None)


@dataclass(slots=True)
class Outcomes:
    """What has come of a button, until the page is shown that says so: too much for a cookie."""

    _kept: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def keep(self, **outcome: Any) -> str:
        """Its key."""
        while len(self._kept) >= OUTCOMES:
            del self._kept[next(iter(self._kept))]
        key = secrets.token_urlsafe(8)
        self._kept[key] = outcome
        return key

    def take(self, key: str | None) -> Mapping[str, Any] | None:
        """What it was; once."""
        return self._kept.pop(key, None) if key else None


@dataclass(slots=True)
class Desk:
    """What the pages are made from."""

    config: Config
    settings: Settings
    redaction: Redaction
    lines: Lines
    is_closing: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when it is to end: who listens is let go."""
    outcomes: Outcomes = field(default_factory=Outcomes)
    _pools: Pools | None = None
    _tried_at: float = -inf
    _error: EventFerryError | None = None
    """Why they could not be opened, the last time."""
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock)
    _look: Look | None = None
    _looked_at: float = 0.0

    async def close(self) -> None:
        """Closes the connections, and interrupts what goes on."""
        self.is_closing.set()
        await self.lines.close()
        if self._pools is not None:
            await self._pools.__aexit__(None, None, None)

    def projection(self, name: str) -> Projection:
        """A projection of the configuration.

        Raises:
            UnknownProjection: there is none of this name; the message says which there are.
        """
        (found,) = self.config.named([name])
        return found

    @classmethod
    def of(cls, config: Config, settings: Settings) -> Desk:
        """That of a service."""
        redaction = Redaction.of(config.redact, payloads=settings.payloads)
        lines = Lines(config.path, config.folder)
        return cls(config=config, settings=settings, redaction=redaction, lines=lines)

    @asynccontextmanager
    async def pools(self) -> AsyncIterator[Pools]:
        """Connections to the stores; the shared one may be missing.

        Raises:
            EventFerryError: the local store is away, or not to be used.
        """
        async with self._opening:
            if self._pools is None or self._pools.away is not None:
                await self._open()
        assert self._pools is not None
        yield self._pools

    async def _open(self) -> None:
        """Opens them, or tries again what failed a while ago; of late failures, says the same."""
        if time.monotonic() - self._tried_at < AGAIN_S:
            if self._pools is None and self._error is not None:
                raise self._error
            return
        new = Pools(self.config, size=CONNECTIONS, shared_is="optional")
        try:
            await new.__aenter__()
        except EventFerryError as error:
            self._error = error
            raise
        finally:
            self._tried_at = time.monotonic()
        old, self._pools = self._pools, new
        if old is not None:
            await old.__aexit__(None, None, None)

    async def look(self, *, fresh: bool = False, times: int = 1) -> Look:
        """How everything is: the last look, if it is good enough.

        Args:
            fresh: Whether none is.
            times: So many times as old as usual it may be.
        """
        async with self._looking:
            age = time.monotonic() - self._looked_at
            if self._look is None or fresh or age >= times * self.settings.look_s:
                self._look = await self._taken((self._look.number if self._look else 0) + 1)
                self._looked_at = time.monotonic()
            return self._look

    async def _taken(self, number: int) -> Look:
        at = datetime.now(UTC)
        try:
            async with asyncio.timeout(ANSWER_S), self.pools() as pools:
                away = () if pools.away is None else (said(pools.away),)
                present = await runners(pools.local)
                own = list(self.config.projections.values())
                return Look(
                    number=number,
                    at=at,
                    projections=tuple(await status(pools, own, present=present)),
                    reports=tuple(await _reports(pools)),
                    runners=tuple(present),
                    away=away,
                )
        except (EventFerryError, psycopg.Error, TimeoutError) as error:
            if not is_expected(error):
                raise
            return Look(number=number, at=at, away=(said(error),))


def is_expected(error: Exception) -> bool:
    """Whether a store may say so, or say nothing, without a fault of ours."""
    of_stores = (EventFerryError, TimeoutError, psycopg.errors.InsufficientPrivilege)
    return isinstance(error, of_stores) or is_outage(error)


def said(error: Exception) -> str:
    """What the viewer is told of it."""
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return f"{first_line(error)}: docs/howto/least-privileges.md says what to grant"
    if isinstance(error, TimeoutError):
        return f"a store has not answered for {ANSWER_S:g} s"
    return first_line(error)


async def _reports(pools: Pools) -> list[Report]:
    """What all services last said."""
    if "shared" not in pools.opened:
        return []
    async with (
        pools.shared.connection() as conn,
        conn.cursor(row_factory=class_row(Report)) as cursor,
    ):
        await cursor.execute(sql.query("all_reports"))
        return await cursor.fetchall()
