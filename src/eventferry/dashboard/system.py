"""The system: versions, both stores, the processes that run projections, how this is served."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from uuid import UUID

import psycopg
from starlette.requests import Request

from eventferry import migration, sql
from eventferry.config import Config
from eventferry.connection import shown
from eventferry.dashboard.desk import CONNECTIONS, Desk, is_expected, said
from eventferry.dashboard.page import Page
from eventferry.dashboard.settings import Settings
from eventferry.errors import EventFerryError
from eventferry.pools import Pools
from eventferry.worker import most_connections

RESTART = "eventferry restart"


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """A store, as it is now."""

    environment: str
    name: str
    """As messages call it."""
    error: str | None = None
    """Why it can't be seen; then nothing else is known."""
    id: UUID | None = None
    postgresql: str | None = None
    schema: int | None = None
    """The number of its last migration."""
    newest: int
    """The last one that this program knows."""
    allowed: int | None = None
    """Connections that its server takes."""
    open: int | None = None
    """Those that there are, of whomever."""
    most: int
    """How many a worker of this service opens at most."""
    started_at: datetime | None = None
    """Since when its server runs."""


async def system(desk: Desk, _: Request) -> Page:
    """What runs, with which versions, on which stores."""
    look, config = await desk.look(), desk.config
    stores = await _stores(desk)
    running = [r for r in look.runners if r.is_alive]
    return Page(
        template="system.html",
        title="System",
        data={
            "service": config.service,
            "versions": {
                "eventferry": version("eventferry"),
                "python": platform.python_version(),
                # that of the files is no one's until a process has loaded them
                "code": running[-1].newest_version if running else None,
            },
            "stores": stores,
            "processes": look.runners,
            "outdated": sum(r.is_outdated for r in running),
            "served": _served(desk.settings, config),
            "restart": RESTART,
        },
        follows=True,
        view={"running": running, "gone": [r for r in look.runners if not r.is_alive]},
    )


def _served(settings: Settings, config: Config) -> dict[str, object]:
    """How this dashboard is served, and to whom."""
    ways = {
        "token": settings.token is not None,
        "users": bool(settings.users),
        "user header": settings.user_header is not None,
    }
    return {
        "host": settings.host,
        "port": settings.port,
        "url": settings.url,
        "logins": [name for name, is_given in ways.items() if is_given],
        "read_only": settings.read_only,
        "payloads": settings.payloads,
        "redact": config.redact,
        "look_s": settings.look_s,
        "connections": CONNECTIONS,
    }


async def _stores(desk: Desk) -> list[Store]:
    """Both; one that is away is said to be."""
    config = desk.config
    names = ["local"] if config.same_database else ["local", "shared"]
    try:
        async with desk.pools() as pools:
            away = {"shared": pools.away} if pools.away else {}
            return [
                _missing(config, name, away[name])
                if name in away
                else await _store(pools, config, name)
                for name in names
            ]
    except EventFerryError as error:
        return [_missing(config, name, error) for name in names]


async def _store(pools: Pools, config: Config, environment: str) -> Store:
    try:
        async with pools.of(environment).connection() as conn:
            applied = await (await conn.execute(sql.query("migrations"))).fetchall()
            counts = await (await conn.execute(sql.query("connections"))).fetchone()
            identity = await (await conn.execute(sql.query("store_id"))).fetchone()
            postgresql = conn.info.parameter_status("server_version")
    except (EventFerryError, psycopg.Error) as error:
        if not is_expected(error):
            raise
        return _missing(config, environment, error)
    allowed, opened = counts or (None, None)
    id_, started_at, _ = identity or (None, None, None)
    return Store(
        environment=environment,
        name=_named(config, environment),
        id=id_,
        postgresql=postgresql,
        schema=max(number for number, *_ in applied),
        newest=_newest(),
        allowed=allowed,
        open=opened,
        most=most_connections(config)[environment],
        started_at=started_at,
    )


def _missing(config: Config, environment: str, error: Exception) -> Store:
    return Store(
        environment=environment,
        name=_named(config, environment),
        error=said(error),
        newest=_newest(),
        most=most_connections(config)[environment],
    )


def _named(config: Config, environment: str) -> str:
    url = config.local_url if environment == "local" else config.shared_url
    return shown(url or "", environment)


def _newest() -> int:
    return max(m.number for m in migration.known())
