"""`projections.toml`: finding it, checking it whole, and what it says.

Everything that can be known to be wrong without a database is reported, all at once, each mistake
in one line with its file, its key, what was expected, what came, and what to do. No line ever
shows a URL: it may hold a password.

    file ─ find ─ read ─┐
                        ├─ check against the models below ─ load handlers ─ Config, or all mistakes
    environment ────────┘
"""

from __future__ import annotations

import difflib
import os
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, NoReturn, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError

from eventferry._json import quoted
from eventferry.errors import ConfigurationError
from eventferry.handler import Handler, load_handler
from eventferry.projection import Projection, Start
from eventferry.stream import check_stream_name

FILE_NAME = "projections.toml"
FILE_VARIABLE = "EVENTFERRY_CONFIG"

Kind = Literal["producing", "consuming"]

_URL_KEYS = ("local_url", "shared_url", "local_listen_url", "shared_listen_url")
_PASSWORD = re.compile(r"://.*:.*@", re.DOTALL)


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
    notes: tuple[str, ...] = ()
    """What is allowed, but should be known: one line each."""

    @property
    def same_database(self) -> bool:
        """Whether the URLs of the two stores name one database.

        As far as URLs can tell: a database has more than one name, and the stores know better.
        """
        return _is_same_database(self.local_url, self.shared_url)

    @property
    def producing(self) -> tuple[Projection, ...]:
        """The producing projections."""
        return tuple(p for p in self.projections.values() if p.kind == "producing")

    @property
    def consuming(self) -> tuple[Projection, ...]:
        """The consuming projections."""
        return tuple(p for p in self.projections.values() if p.kind == "consuming")


def load(
    path: Path | str | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    import_handlers: bool = True,
) -> Config:
    """Reads and checks the configuration.

    Args:
        path: The file; None: the one that EVENTFERRY_CONFIG names, else `projections.toml`, or a
            `pyproject.toml` with `[tool.eventferry]`, in the current folder or the nearest above.
        environ: EVENTFERRY_LOCAL_URL, EVENTFERRY_SHARED_URL, EVENTFERRY_LOCAL_LISTEN_URL and
            EVENTFERRY_SHARED_LISTEN_URL in it win over the file.
        import_handlers: False leaves the handlers of all projections None. Otherwise the file's
            folder is put on `sys.path`, where the handlers' modules are looked for.

    Raises:
        ConfigurationError: something is wrong; with all mistakes at once.
    """
    file = _find(path, environ)
    mistakes = _Mistakes(file)
    table = _read(file, mistakes)
    settings = _settings(table, environ, mistakes)
    if import_handlers and (folder := str(file.parent)) not in sys.path:
        sys.path.insert(0, folder)
    projections = _projections(table, mistakes, import_handlers=import_handlers)
    if settings is not None and _is_same_database(settings.local_url, settings.shared_url):
        _refuse_producing(table, mistakes)
    if mistakes.lines or settings is None:
        raise ConfigurationError(mistakes.lines)
    return Config(
        service=settings.service,
        path=file,
        local_url=settings.local_url,
        shared_url=settings.shared_url,
        local_listen_url=_listen_url(settings.local_listen_url, settings.local_url),
        shared_listen_url=_listen_url(settings.shared_listen_url, settings.shared_url),
        poll_interval=settings.poll_interval,
        projections=MappingProxyType({p.name: p for p in projections}),
        notes=tuple(_notes(table, projections, mistakes)),
    )


# ---- finding and reading the file


class _Mistakes:
    """Collects lines, each with the place that it speaks of."""

    def __init__(self, file: Path) -> None:
        self.lines: list[str] = []
        self._file = str(file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file)
        self._root = ("tool", "eventferry") if _is_pyproject(file) else ()

    def add(self, text: str, *keys: str | int) -> None:
        self.lines.append(self.line(text, *keys))

    def line(self, text: str, *keys: str | int) -> str:
        """`projections.toml: consuming.buyer-projection.stream_names[0]: …`"""
        place = ""
        for key in (*self._root, *keys) if keys else ():
            place += f"[{key}]" if isinstance(key, int) else f"{'.' if place else ''}{_key(key)}"
        return ": ".join(part for part in (self._file, place, text) if part)

    def stop(self, text: str) -> NoReturn:
        self.add(text)
        raise ConfigurationError(self.lines)


def _key(key: str) -> str:
    """The key as TOML writes it."""
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else quoted(key)


def _find(path: Path | str | None, environ: Mapping[str, str]) -> Path:
    given = path or environ.get(FILE_VARIABLE)
    if given:
        return Path(given).absolute()
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (file := folder / FILE_NAME).is_file():
            return file
        if (file := folder / "pyproject.toml").is_file() and _has_section(file):
            return file
    advice = (
        f"Go to your service's folder, or name the file with --config or {FILE_VARIABLE}, "
        f'or write a {FILE_NAME}; its first line is: service = "name-of-your-service"'
    )
    looked = f"there is no {FILE_NAME}, and no pyproject.toml with [tool.eventferry]"
    raise ConfigurationError([f"{looked}, in {here} or a folder above it. {advice}"])


def _has_section(pyproject: Path) -> bool:
    # By its text: a pyproject.toml that can't be parsed or read, and isn't ours, is not our matter.
    try:
        content = pyproject.read_bytes()
    except OSError:
        return False
    return re.search(rb"^\s*\[+\s*tool\s*\.\s*eventferry\b", content, re.MULTILINE) is not None


def _is_pyproject(file: Path) -> bool:
    return file.name == "pyproject.toml"


def _read(file: Path, mistakes: _Mistakes) -> dict[str, Any]:
    try:
        table: Any = _without_passwords(tomllib.loads(file.read_bytes().decode("utf-8-sig")))
    except FileNotFoundError:
        mistakes.stop(f"there is no such file (from --config or {FILE_VARIABLE})")
    except OSError as error:
        mistakes.stop(f"can't be read: {error.strerror}")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        mistakes.stop(f"is not UTF-8: the first wrong byte is in line {line}. Save it as UTF-8")
    except RecursionError:
        mistakes.stop("is not TOML that Python can read: it nests too deeply")
    except ValueError as error:  # TOMLDecodeError, or a number of too many digits
        mistakes.stop(f"is not TOML: {error}")
    for key in ("tool", "eventferry") if _is_pyproject(file) else ():
        table = table.get(key) if isinstance(table, dict) else None
    if not isinstance(table, dict):
        mistakes.stop("has no table [tool.eventferry]")
    return table


def _without_passwords(value: Any, *, key: str = "") -> Any:
    """The same, but for URLs where none belongs: mistakes show what came."""
    if isinstance(value, dict):
        return {k: _without_passwords(v, key=k) for k, v in value.items()}
    if isinstance(value, list):
        return [_without_passwords(v) for v in value]
    is_misplaced = key not in _URL_KEYS and isinstance(value, str) and _PASSWORD.search(value)
    return "a URL" if is_misplaced else value


# ---- the shape of the file: a model for each table, a validator for each kind of value


_DURATION = re.compile(r"([0-9]{1,9})(ms|s|m|h)")
_UNIT = {"ms": "milliseconds", "s": "seconds", "m": "minutes", "h": "hours"}
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_LONGEST = timedelta(days=24)  # PostgreSQL keeps timeouts as milliseconds in 31 bits


def parse_duration(value: object) -> timedelta:
    expected = "must be a duration such as '500ms', '30s', '5m' or '1h'"
    if type(value) is int:
        raise ValueError(f"{expected}, with its unit, not {value}; did you mean '{value}s'?")
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{expected}, not {_shown(value)}")
    duration = timedelta(**{_UNIT[match[2]]: int(match[1])})
    if not timedelta(0) < duration <= _LONGEST:
        raise ValueError(f"must be more than 0 and at most 24 days ('576h'), not {value!r}")
    return duration


def _url(value: object) -> str:
    expected = "must be a URL such as 'postgresql://user:password@host:5432/database'"
    if not isinstance(value, str):
        raise ValueError(f"{expected}, not {type(value).__name__}")
    if re.match(r"postgres(ql)?\+\w+://", value):
        raise ValueError(f"{expected}, without a driver: leave the '+…' out")
    if not value.startswith(("postgresql://", "postgres://")):
        raise ValueError(f"{expected}; it must begin with postgresql:// or postgres://")
    if not _is_understood(value):
        raise ValueError(
            f"{expected}; PostgreSQL does not understand this one. Special characters in the "
            "user or password must be percent-encoded: '@' is '%40', '/' is '%2F'"
        )
    return value


_ONE_AT = re.compile(r"\w+://(?:[^@/]*@)?+[^@?]*(?:\?.*)?", re.DOTALL)
"""The user and password end at the first '@', and hold no '/'. With another '@' before the query,
PostgreSQL would take what is left of a password for a host, a port or a database."""


def _is_understood(url: str) -> bool:
    try:
        parts = conninfo_to_dict(url)
    except (psycopg.Error, ValueError):  # its message would show the URL
        return False
    is_port = re.fullmatch(r"[0-9,]*", str(parts.get("port") or ""))
    return bool(is_port and _ONE_AT.fullmatch(url))


def _listen(value: object) -> str:
    if value == "off":
        return "off"
    try:
        return _url(value)
    except ValueError as error:
        raise ValueError(f"{error}; or 'off'") from None


def _name(value: object) -> str:
    mistake = _name_mistake(value)
    if mistake is not None:
        raise ValueError(mistake)
    return str(value)


def _name_mistake(value: object) -> str | None:
    if isinstance(value, str) and _NAME.fullmatch(value):
        return None
    return f"must be 1 to 100 letters (A to Z), digits, '_', '-' and '.', not {_shown(value)}"


def _stream(value: object) -> str:
    mistake = check_stream_name(value)
    if mistake is not None:
        raise ValueError(mistake)
    return str(value)


def _streams(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"must be a list of one or more stream names, not {_shown(value)}")
    wrong = [mistake for name in value if (mistake := check_stream_name(name))]
    twice = [repr(name) for name, n in Counter(map(str, value)).items() if n > 1]
    if twice:
        wrong.append(f"{', '.join(twice)} more than once; a projection reads a stream once")
    if wrong:
        raise ValueError("; ".join(wrong))
    return tuple(value)


def _types(value: object) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(t, str) and t for t in value):
        raise ValueError(f"must be a list of event types, not {_shown(value)}")
    if not value:
        raise ValueError("is empty: the handler would get nothing; leave it out for all types")
    return frozenset(value)


def _start(value: object) -> Start:
    if value == "start" or value == "now":  # noqa: PLR1714 - for the type checker
        return value
    if type(value) is int and 0 <= value < 2**63:
        return value
    raise ValueError(f"must be 'start', 'now' or a position (0 or more), not {_shown(value)}")


Duration = Annotated[timedelta, PlainValidator(parse_duration)]
Url = Annotated[str, PlainValidator(_url)]
ListenUrl = Annotated[str | None, PlainValidator(_listen)]
Name = Annotated[str, PlainValidator(_name)]
Stream = Annotated[str, PlainValidator(_stream)]


class _Table(BaseModel):
    """A table of the file. "must be", then a field's description, is what its mistakes say."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class _Settings(_Table):
    service: Name
    local_url: Url
    shared_url: Url
    local_listen_url: ListenUrl = None
    shared_listen_url: ListenUrl = None
    poll_interval: Duration = timedelta(seconds=1)


class _Projection(_Table):
    stream_name: Annotated[str | None, PlainValidator(_stream)] = None
    stream_names: Annotated[tuple[str, ...], PlainValidator(_streams)] = ()
    background_process: Annotated[bool, Field(description="true or false")] = False
    queue: Name = "domain-events"
    start: Annotated[Start, PlainValidator(_start)] = "start"
    batch_size: Annotated[
        int, Field(ge=1, le=100_000, description="a whole number from 1 to 100000")
    ] = 500
    batch_time: Duration = timedelta(seconds=1)


class _Producing(_Projection):
    shared_stream: Annotated[str | None, PlainValidator(_stream)] = None


class _Consuming(_Projection):
    environment: Annotated[Literal["local", "shared"], Field(description="'local' or 'shared'")]
    handler: Annotated[str, Field(description="text such as 'package.module:name'")]
    event_types: Annotated[frozenset[str] | None, PlainValidator(_types)] = None
    handler_timeout: Duration = timedelta(seconds=60)


_TABLES: dict[Kind, type[_Producing] | type[_Consuming]] = {
    "producing": _Producing,
    "consuming": _Consuming,
}
_LATER = frozenset({"attempts", "backoff", "backoff_max", "on_failure", "partitions"})

_URL_ADVICE = 'set {variable}, or write {key} = "postgresql://…" at the top of the file'
_MISSING = {
    "service": 'write service = "name-of-your-service" at the top of the file',
    "environment": 'write environment = "shared", or "local" to read this service\'s own store',
    "handler": 'write handler = "package.module:name"',
    "local_url": _URL_ADVICE.format(variable="EVENTFERRY_LOCAL_URL", key="local_url"),
    "shared_url": _URL_ADVICE.format(variable="EVENTFERRY_SHARED_URL", key="shared_url"),
}

TableT = TypeVar("TableT", bound=_Table)


def _checked(
    model: type[TableT],
    table: Mapping[str, Any],
    mistakes: _Mistakes,
    *keys: str,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> TableT | None:
    """The table as a `model`; None, and all of its mistakes noted, if it doesn't fit.

    `variables` names the environment variables that some of its values came from.
    """
    try:
        return model.model_validate(table)
    except ValidationError as error:
        for one in error.errors(include_url=False):
            key = str(one["loc"][0])
            text = _explained(model, key, one["type"], one["input"], one.get("ctx", {}))
            if key in variables:
                mistakes.lines.append(f"{variables[key]}: {text}")
            else:
                mistakes.add(text, *keys, key)
        return None


def _explained(
    model: type[_Table], key: str, type_: str, value: object, context: Mapping[str, Any]
) -> str:
    if type_ == "missing":
        return f"missing; {_MISSING[key]}"
    if type_ == "extra_forbidden":
        return f"unknown key{_way_out(model, key, value)}"
    if type_ == "value_error":
        return str(context["error"])
    return f"must be {model.model_fields[key].description}, not {_shown(value)}"


def _way_out(model: type[_Table], key: str, value: object) -> str:
    """What may have been meant by an unknown key."""
    known = [*model.model_fields, *(_TABLES if model is _Settings else ())]
    if key in _LATER:
        return ": this version of eventferry does not have it yet; remove it"
    if issubclass(model, _Projection):
        for kind, other in _TABLES.items():
            if key in other.model_fields:
                return f" here: only {kind} projections have it; remove it"
    close = difflib.get_close_matches(key, known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    if isinstance(value, dict) and issubclass(model, _Projection):
        return '; a name with dots needs quotes, as in [consuming."a.b"]'
    return f"; known are {', '.join(known)}"


# ---- what the tables say together


def _settings(
    table: Mapping[str, Any], environ: Mapping[str, str], mistakes: _Mistakes
) -> _Settings | None:
    own = {key: value for key, value in table.items() if key not in _TABLES}
    # An empty variable counts as not set: compose files pass variables on that way.
    variables = {
        key: variable for key in _URL_KEYS if environ.get(variable := f"EVENTFERRY_{key.upper()}")
    }
    own |= {key: environ[variable] for key, variable in variables.items()}
    return _checked(_Settings, own, mistakes, variables=variables)


def _projections(
    table: Mapping[str, Any], mistakes: _Mistakes, *, import_handlers: bool
) -> list[Projection]:
    found: dict[str, str] = {}
    projections = []
    for kind, name, raw in _projection_tables(table, mistakes):
        mistake = _name_mistake(name)
        if mistake is not None:
            mistakes.add(f"the name of a projection {mistake}", kind, name)
        elif name in found:
            mistakes.add(f"the name is taken by {found[name]}.{name}; rename one", kind, name)
        found[name] = kind
        projections.append(_projection(kind, name, raw, mistakes, import_handlers=import_handlers))
    return [projection for projection in projections if projection is not None]


def _projection_tables(
    table: Mapping[str, Any], mistakes: _Mistakes
) -> Iterator[tuple[Kind, str, Mapping[str, Any]]]:
    for kind in _TABLES:
        named = table.get(kind, {})
        if not isinstance(named, dict):
            mistakes.add(f"must be tables, each with a name: [{kind}.NAME]", kind)
            continue
        for name, raw in named.items():
            if isinstance(raw, dict):
                yield kind, name, raw
            else:
                advice = f"a projection is written as [{kind}.NAME], with its keys below"
                mistakes.add(f"must be a table, not {_shown(raw)}; {advice}", kind, name)


def _projection(
    kind: Kind, name: str, raw: Mapping[str, Any], mistakes: _Mistakes, *, import_handlers: bool
) -> Projection | None:
    before = len(mistakes.lines)
    _check_stream_keys(kind, name, raw, mistakes)
    said = _checked(_TABLES[kind], raw, mistakes, kind, name)
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
    )
    if isinstance(said, _Producing):
        return replace(projection, shared_stream=said.shared_stream or streams[0])
    return replace(
        projection,
        environment=said.environment,
        handler=handler,
        event_types=said.event_types,
        handler_timeout=said.handler_timeout,
    )


def _check_stream_keys(kind: Kind, name: str, raw: Mapping[str, Any], mistakes: _Mistakes) -> None:
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


def _handler(reference: str, mistakes: _Mistakes, *keys: str) -> Handler | None:
    try:
        return load_handler(reference)
    except ConfigurationError as error:
        for mistake in error.mistakes:
            mistakes.add(mistake, *keys)
        return None


def _refuse_producing(table: Mapping[str, Any], mistakes: _Mistakes) -> None:
    if table.get("producing"):
        mistakes.add(
            "local_url and shared_url name the same database, so there is nothing to produce: "
            "all services see its streams already. Remove the producing projections, or correct "
            "the URLs",
            "producing",
        )


def _notes(
    table: Mapping[str, Any], projections: Iterable[Projection], mistakes: _Mistakes
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


def _is_same_database(a: str, b: str) -> bool:
    return _database(a) == _database(b)


def _database(url: str) -> Sequence[str]:
    """Host, port and database, with libpq's defaults; loopback addresses count as one."""
    parts = {key: str(value) for key, value in conninfo_to_dict(url).items() if value is not None}
    host = parts.get("host") or parts.get("hostaddr") or "localhost"
    host = "localhost" if host in {"127.0.0.1", "::1"} else host.lower()
    return host, parts.get("port") or "5432", parts.get("dbname") or parts.get("user") or ""


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
