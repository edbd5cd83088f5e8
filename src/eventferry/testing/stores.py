"""The stores of a service under test: made once as the project wants them, then copied."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType

import psycopg

from eventferry.config import Config, load
from eventferry.handler import handler_of
from eventferry.migration import migrate
from eventferry.store import EventStore
from eventferry.testing.databases import Databases
from eventferry.testing.execution import run, until_idle

Schema = str | Path | Callable[[str], object] | None
"""How the service's own tables are made: SQL, a file with it, or a function of the URL."""
NOWHERE: Mapping[str, str] = {
    "local_url": "postgresql://nowhere/local",
    "shared_url": "postgresql://nowhere/shared",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """The URLs of a service's stores."""

    local: str
    shared: str

    @property
    def environ(self) -> dict[str, str]:
        """What makes a configuration use them, and nothing beside them."""
        return {
            "EVENTFERRY_LOCAL_URL": self.local,
            "EVENTFERRY_SHARED_URL": self.shared,
            "EVENTFERRY_LOCAL_LISTEN_URL": self.local,
            "EVENTFERRY_SHARED_LISTEN_URL": self.shared,
        }

    def config(self, file: Path | None, *, import_handlers: bool = False) -> Config:
        """The configuration of the file, on these stores; without one, of a service without
        projections."""
        if file is not None:
            return load(file, environ=self.environ, import_handlers=import_handlers)
        return Config(
            service="service-under-test",
            path=Path("projections.toml"),
            local_url=self.local,
            shared_url=self.shared,
            local_listen_url=self.local,
            shared_listen_url=self.shared,
            poll_interval=timedelta(seconds=1),
            projections=MappingProxyType({}),
        )


def fresh_stores(databases: Databases, file: Path | None, schema: Schema) -> Stores:
    """New stores of the service that the file configures, with its streams and its own tables.

    Its projections have begun: what is appended now is no replay.
    """
    is_one = file is not None and load(file, defaults=NOWHERE, import_handlers=False).same_database

    def prepare(local: str, shared: str | None = None) -> None:
        stores = Stores(local=local, shared=shared or local)
        config = stores.config(file)
        migrate(local, kind="local", service=config.service)
        if shared is not None:
            migrate(shared, kind="shared")
        _create_streams(config)
        _create_tables(local, schema)
        _begin(config)

    urls = databases.prepared((file, schema), prepare, number=1 if is_one else 2)
    return Stores(local=urls[0], shared=urls[-1])


def _create_streams(config: Config) -> None:
    with EventStore(config.local_url) as local, EventStore(config.shared_url) as shared:
        for projection in config.projections.values():
            for stream in projection.streams:
                (local if projection.environment == "local" else shared).create_stream(stream)


def _create_tables(url: str, schema: Schema) -> None:
    if callable(schema):
        schema(url)
    elif schema is not None:
        text = schema.read_text() if isinstance(schema, Path) else schema
        with psycopg.connect(url) as conn:
            conn.execute(text.encode())


def _begin(config: Config) -> None:
    """Runs the projections, which find nothing; the code of their handlers is not needed yet."""
    idle = handler_of(lambda _event: None, "eventferry.testing")
    projections = [
        p if p.kind == "producing" else replace(p, handler=idle)
        for p in config.projections.values()
    ]
    if projections:
        run(until_idle(config, projections))
