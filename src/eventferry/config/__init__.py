"""`projections.toml`, or a framework's settings: checked as a whole, and what it says.

Everything that can be known to be wrong without a database is reported, all at once, each mistake
in one line with its file, its key, what was expected, what came, and what to do. No line ever
shows a URL: it may hold a password.

    settings ───────────┐
    file ─ find ─ read ─┼─ check against the models ── load handlers ─ Config, or all mistakes
    environment ────────┘
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

from psycopg.conninfo import conninfo_to_dict

from eventferry import framework
from eventferry.config._file import VARIABLE_KEYS, Mistakes, read, without_passwords
from eventferry.config._shape import (
    TABLES,
    Kind,
    ProducingTable,
    SettingsTable,
    checked,
    name_mistake,
    parse_duration,
    shown,
)
from eventferry.config_file import FILE_VARIABLE, find
from eventferry.errors import ConfigurationError, UnknownProjection
from eventferry.handler import Handler, load_handler
from eventferry.projection import Projection

__all__ = ["Config", "is_same_database", "load", "parse_duration"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What a service's configuration says, checked."""

    service: str
    """Names this service among all that use the shared store."""
    path: Path
    """The file that it was read from."""
    local_url: str = field(repr=False)  # may hold a password, as those below
    """The service's own database."""
    shared_url: str = field(repr=False)
    """The database through which all services talk."""
    local_listen_url: str | None = field(repr=False)
    """For LISTEN, beside a connection pooler; None: don't listen, only poll."""
    shared_listen_url: str | None = field(repr=False)
    """The same for the shared store."""
    poll_interval: timedelta
    """How often to look for work that no notification told of."""
    projections: Mapping[str, Projection]
    """By name, in the order of the file, producing ones first."""
    version: str | None = None
    """Of the service's code; None: it says none."""
    redact: tuple[str, ...] = ()
    """What of events the dashboard does not show: `data.email`, `data.items.*.price`."""
    notes: tuple[str, ...] = ()
    """What is allowed, but should be known: one line each."""
    _folder: Path | None = field(default=None, repr=False)

    @property
    def folder(self) -> Path:
        """The service's, where its code is: that of its file, but for a framework's settings."""
        return self._folder or self.path.parent

    @property
    def same_database(self) -> bool:
        """Whether the URLs of the two stores name one database.

        As far as URLs can tell: a database has more than one name, and the stores know better.
        """
        return is_same_database(self.local_url, self.shared_url)

    @property
    def producing(self) -> tuple[Projection, ...]:
        """The producing projections."""
        return tuple(p for p in self.projections.values() if p.kind == "producing")

    @property
    def consuming(self) -> tuple[Projection, ...]:
        """The consuming projections."""
        return tuple(p for p in self.projections.values() if p.kind == "consuming")

    def named(self, names: Iterable[str]) -> list[Projection]:
        """The projections of these names, in their order.

        Raises:
            UnknownProjection: there is none of a name.
        """
        found = []
        for name in names:
            if name not in self.projections:
                close = difflib.get_close_matches(name, self.projections, n=1)
                raise UnknownProjection(
                    f"{self.path.name} has no projection {name!r}; "
                    + (f"did you mean {close[0]!r}? " if close else "")
                    + f"it has {', '.join(sorted(self.projections)) or 'none'}"
                )
            found.append(self.projections[name])
        return found


def load(
    path: Path | str | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    defaults: Mapping[str, str] = MappingProxyType({}),
    import_handlers: bool = True,
) -> Config:
    """Reads and checks the configuration.

    Args:
        path: The file; None: the one that EVENTFERRY_CONFIG names, else a framework's settings,
            else `projections.toml`, or a `pyproject.toml` with `[tool.eventferry]`, in the current
            folder or the nearest above.
        environ: EVENTFERRY_LOCAL_URL, EVENTFERRY_SHARED_URL, EVENTFERRY_LOCAL_LISTEN_URL and
            EVENTFERRY_SHARED_LISTEN_URL, EVENTFERRY_VERSION in it win over the file.
        defaults: What counts where neither says anything: `{"local_url": "postgresql://…"}`.
        import_handlers: False leaves the handlers of all projections None. Otherwise the file's
            folder is put on `sys.path`, where the handlers' modules are looked for.

    Raises:
        ConfigurationError: something is wrong; with all mistakes at once.
    """
    said = _said(path, environ)
    table, mistakes = said.table, said.mistakes
    defaults = {**defaults, **framework.current().defaults()}
    settings = _settings(table, environ, defaults, mistakes)
    if import_handlers and str(said.folder) not in sys.path:
        sys.path.insert(0, str(said.folder))
    projections = _projections(table, mistakes, import_handlers=import_handlers)
    if settings is not None and is_same_database(settings.local_url, settings.shared_url):
        _refuse_producing(table, mistakes)
    if mistakes.lines or settings is None:
        raise ConfigurationError(mistakes.lines)
    local_url = framework.current().local_url(settings.local_url)
    return Config(
        service=settings.service,
        path=said.path,
        local_url=local_url,
        shared_url=settings.shared_url,
        local_listen_url=_listen_url(settings.local_listen_url, local_url),
        shared_listen_url=_listen_url(settings.shared_listen_url, settings.shared_url),
        poll_interval=settings.poll_interval,
        projections=MappingProxyType({p.name: p for p in projections}),
        version=settings.version,
        redact=settings.redact,
        notes=tuple(_notes(table, projections, mistakes)),
        _folder=said.folder,
    )


@dataclass(frozen=True, slots=True)
class _Said:
    """A configuration, unchecked."""

    path: Path
    folder: Path
    table: Mapping[str, Any]
    mistakes: Mistakes


def _said(path: Path | str | None, environ: Mapping[str, str]) -> _Said:
    given = path or environ.get(FILE_VARIABLE)
    settings = framework.current().settings()
    if settings is not None and (not given or Path(given).absolute() == settings.path):
        table, mistakes = settings.table, Mistakes(settings.name)
        return _Said(settings.path, settings.folder, without_passwords(table), mistakes)
    file = find(path, environ)
    table, mistakes = read(file)
    return _Said(file, file.parent, table, mistakes)


def _settings(
    table: Mapping[str, Any],
    environ: Mapping[str, str],
    defaults: Mapping[str, str],
    mistakes: Mistakes,
) -> SettingsTable | None:
    own = {**defaults, **{key: value for key, value in table.items() if key not in TABLES}}
    # An empty variable counts as not set: compose files pass variables on that way.
    variables = {
        key: variable
        for key in VARIABLE_KEYS
        if environ.get(variable := f"EVENTFERRY_{key.upper()}")
    }
    own |= {key: environ[variable] for key, variable in variables.items()}
    return checked(SettingsTable, own, mistakes, variables=variables)


def _projections(
    table: Mapping[str, Any], mistakes: Mistakes, *, import_handlers: bool
) -> list[Projection]:
    found: dict[str, str] = {}
    projections = []
    for kind, name, raw in _projection_tables(table, mistakes):
        mistake = name_mistake(name)
        if mistake is not None:
            mistakes.add(f"the name of a projection {mistake}", kind, name)
        elif name in found:
            mistakes.add(f"the name is taken by {found[name]}.{name}; rename one", kind, name)
        found[name] = kind
        projections.append(_projection(kind, name, raw, mistakes, import_handlers=import_handlers))
    return [projection for projection in projections if projection is not None]


def _projection_tables(
    table: Mapping[str, Any], mistakes: Mistakes
) -> Iterator[tuple[Kind, str, Mapping[str, Any]]]:
    for kind in TABLES:
        named = table.get(kind, {})
        if not isinstance(named, dict):
            mistakes.add(f"must be tables, each with a name: [{kind}.NAME]", kind)
            continue
        for name, raw in named.items():
            if isinstance(raw, dict):
                yield kind, name, raw
            else:
                advice = f"a projection is written as [{kind}.NAME], with its keys below"
                mistakes.add(f"must be a table, not {shown(raw)}; {advice}", kind, name)


def _projection(
    kind: Kind, name: str, raw: Mapping[str, Any], mistakes: Mistakes, *, import_handlers: bool
) -> Projection | None:
    before = len(mistakes.lines)
    _check_stream_keys(kind, name, raw, mistakes)
    said = checked(TABLES[kind], raw, mistakes, kind, name)
    handler = None
    if import_handlers and kind == "consuming" and isinstance(raw.get("handler"), str):
        handler = _handler(raw["handler"], mistakes, kind, name, "handler")
    if said is None or len(mistakes.lines) > before:
        return None
    streams = said.stream_names or (said.stream_name or "",)
    projection = Projection(
        name=name,
        kind=kind,
        streams=streams,
        environment="local",
        background=said.background_process,
        queue=said.queue,
        start=said.start,
        batch_size=said.batch_size,
        batch_time=said.batch_time,
        attempts=said.attempts,
        backoff=said.backoff,
        backoff_max=said.backoff_max,
    )
    if isinstance(said, ProducingTable):
        return replace(projection, shared_stream=said.shared_stream or streams[0])
    return replace(
        projection,
        environment=said.environment,
        handler=handler,
        event_types=said.event_types,
        handler_timeout=said.handler_timeout,
        on_failure=said.on_failure,
        storm=said.storm,
    )


def _check_stream_keys(kind: Kind, name: str, raw: Mapping[str, Any], mistakes: Mistakes) -> None:
    # On the raw table: pydantic looks at a model as a whole only when all of its fields are right.
    key, value = ("stream_name", '"…"') if kind == "producing" else ("stream_names", '["…"]')
    both = "stream_name" in raw and "stream_names" in raw
    if both:
        mistakes.add(f"has stream_name and stream_names; keep {key}", kind, name)
    elif "stream_name" not in raw and "stream_names" not in raw:
        mistakes.add(f"reads no stream; write {key} = {value}", kind, name)
    names = raw.get("stream_names")
    if kind == "producing" and not both and isinstance(names, list) and len(names) > 1:
        mistakes.add(
            f"must be one stream, not {len(names)}; write a producing projection for each",
            kind, name, "stream_names",
        )  # fmt: skip


def _handler(reference: str, mistakes: Mistakes, *keys: str) -> Handler | None:
    try:
        handler = load_handler(reference)
    except ConfigurationError as error:
        for mistake in error.mistakes:
            mistakes.add(mistake, *keys)
        return None
    if handler.is_async and (refusal := framework.current().async_handlers):
        mistakes.add(f"handler {reference} is 'async def'; {refusal}", *keys)
    return handler


def _refuse_producing(table: Mapping[str, Any], mistakes: Mistakes) -> None:
    if table.get("producing"):
        mistakes.add(
            "local_url and shared_url name the same database, so there is nothing to produce: "
            "all services see its streams already. Remove the producing projections, or correct "
            "the URLs",
            "producing",
        )


def _notes(
    table: Mapping[str, Any], projections: Iterable[Projection], mistakes: Mistakes
) -> Iterator[str]:
    ferried: dict[tuple[str, str | None], str] = {}
    for p in projections:
        if p.kind == "consuming" and "stream_name" in table[p.kind][p.name]:
            advice = f'write stream_names = ["{p.streams[0]}"]'
            yield mistakes.line(f"deprecated; {advice}", p.kind, p.name, "stream_name")
        if p.kind == "producing":
            first = ferried.setdefault((p.streams[0], p.shared_stream), p.name)
            if first != p.name:
                yield mistakes.line(
                    f"ferries {p.streams[0]!r} to {p.shared_stream!r}, as producing.{first} does: "
                    "it will find all events there already, and only cost time",
                    p.kind, p.name,
                )  # fmt: skip


def _listen_url(listen_url: str | None, url: str) -> str | None:
    return None if listen_url == "off" else listen_url or url


def is_same_database(a: str, b: str) -> bool:
    """Whether two URLs name one database, as far as they tell."""
    return _database(a) == _database(b)


def _database(url: str) -> Sequence[str]:
    """Host, port and database, with libpq's defaults; loopback addresses count as one."""
    parts = {key: str(value) for key, value in conninfo_to_dict(url).items() if value is not None}
    host = parts.get("host") or parts.get("hostaddr") or "localhost"
    host = "localhost" if host in {"127.0.0.1", "::1"} else host.lower()
    return host, parts.get("port") or "5432", parts.get("dbname") or parts.get("user") or ""
