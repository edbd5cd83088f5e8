"""The shape of the file: a model for each table, a validator for each kind of value."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError

from eventferry.config._file import Mistakes
from eventferry.projection import OnFailure, Start
from eventferry.stream import check_stream_name

Kind = Literal["producing", "consuming"]

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
        raise ValueError(f"{expected}, not {shown(value)}")
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
    mistake = name_mistake(value)
    if mistake is not None:
        raise ValueError(mistake)
    return str(value)


def name_mistake(value: object) -> str | None:
    if isinstance(value, str) and _NAME.fullmatch(value) and value not in (".", ".."):
        return None
    return f"must be 1 to 100 letters (A to Z), digits, '_', '-' and '.', not {shown(value)}"


def _stream(value: object) -> str:
    mistake = check_stream_name(value)
    if mistake is not None:
        raise ValueError(mistake)
    return str(value)


def _streams(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"must be a list of one or more stream names, not {shown(value)}")
    wrong = [mistake for name in value if (mistake := check_stream_name(name))]
    twice = [repr(name) for name, n in Counter(map(str, value)).items() if n > 1]
    if twice:
        wrong.append(f"{', '.join(twice)} more than once; a projection reads a stream once")
    if wrong:
        raise ValueError("; ".join(wrong))
    return tuple(value)


def _types(value: object) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(t, str) and t for t in value):
        raise ValueError(f"must be a list of event types, not {shown(value)}")
    if not value:
        raise ValueError("is empty: the handler would get nothing; leave it out for all types")
    return frozenset(value)


def _start(value: object) -> Start:
    if value == "start" or value == "now":  # noqa: PLR1714 - for the type checker
        return value
    if type(value) is int and 0 <= value < 2**63:
        return value
    raise ValueError(f"must be 'start', 'now' or a position (0 or more), not {shown(value)}")


def _redacted(value: object) -> tuple[str, ...]:
    expected = "must be a list of paths into events, such as 'data.email' or 'data.items.*.price'"
    if not isinstance(value, list):
        raise ValueError(f"{expected}, not {shown(value)}")
    for path in value:
        keys = path.split(".") if isinstance(path, str) else [""]
        if keys[0] not in ("data", "metadata", "*") or not all(keys):
            raise ValueError(f"{expected}; {shown(path)} begins with neither data nor metadata")
    return tuple(value)


Duration = Annotated[timedelta, PlainValidator(parse_duration)]
Url = Annotated[str, PlainValidator(_url)]
ListenUrl = Annotated[str | None, PlainValidator(_listen)]
Name = Annotated[str, PlainValidator(_name)]
Stream = Annotated[str, PlainValidator(_stream)]

BatchSize = Annotated[int, Field(ge=1, le=100_000, description="a whole number from 1 to 100000")]


class _Table(BaseModel):
    """A table of the file. "must be", then a field's description, is what its mistakes say."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class SettingsTable(_Table):
    service: Name
    local_url: Url
    shared_url: Url
    local_listen_url: ListenUrl = None
    shared_listen_url: ListenUrl = None
    poll_interval: Duration = timedelta(seconds=1)
    redact: Annotated[tuple[str, ...], PlainValidator(_redacted)] = ()
    version: Annotated[
        str | None,
        Field(min_length=1, max_length=100, description="text, of up to 100 characters"),
    ] = None


class _ProjectionTable(_Table):
    stream_name: Annotated[str | None, PlainValidator(_stream)] = None
    stream_names: Annotated[tuple[str, ...], PlainValidator(_streams)] = ()
    background_process: Annotated[bool, Field(description="true or false")] = False
    queue: Name = "domain-events"
    start: Annotated[Start, PlainValidator(_start)] = "start"
    batch_size: BatchSize = 1000
    batch_time: Duration = timedelta(seconds=1)
    attempts: Annotated[int, Field(ge=1, le=1000, description="a whole number from 1 to 1000")] = 5
    backoff: Duration = timedelta(seconds=1)
    backoff_max: Duration = timedelta(minutes=5)


class ProducingTable(_ProjectionTable):
    batch_size: BatchSize = 5000
    shared_stream: Annotated[str | None, PlainValidator(_stream)] = None
    on_failure: Annotated[
        Literal["stop"], Field(description="'stop': a shared stream has no holes")
    ] = "stop"


class ConsumingTable(_ProjectionTable):
    environment: Annotated[Literal["local", "shared"], Field(description="'local' or 'shared'")]
    handler: Annotated[str, Field(description="text such as 'package.module:name'")]
    event_types: Annotated[frozenset[str] | None, PlainValidator(_types)] = None
    handler_timeout: Duration = timedelta(seconds=60)
    on_failure: Annotated[OnFailure, Field(description="'stop', 'park' or 'skip'")] = "stop"
    storm: Annotated[
        int, Field(ge=2, le=100_000, description="a whole number from 2 to 100000")
    ] = 10


TABLES: dict[Kind, type[ProducingTable] | type[ConsumingTable]] = {
    "producing": ProducingTable,
    "consuming": ConsumingTable,
}
_LATER = frozenset({"partitions"})

_URL_ADVICE = 'set {variable}, or write {key} = "postgresql://…" at the top of the file'
_MISSING = {
    "service": 'write service = "name-of-your-service" at the top of the file',
    "environment": 'write environment = "shared", or "local" to read this service\'s own store',
    "handler": 'write handler = "package.module:name"',
    "local_url": _URL_ADVICE.format(variable="EVENTFERRY_LOCAL_URL", key="local_url"),
    "shared_url": _URL_ADVICE.format(variable="EVENTFERRY_SHARED_URL", key="shared_url"),
}

TableT = TypeVar("TableT", bound=_Table)


def checked(
    model: type[TableT],
    table: Mapping[str, Any],
    mistakes: Mistakes,
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
    return f"must be {model.model_fields[key].description}, not {shown(value)}"


def _way_out(model: type[_Table], key: str, value: object) -> str:
    """What may have been meant by an unknown key."""
    known = [*model.model_fields, *(TABLES if model is SettingsTable else ())]
    if key in _LATER:
        return ": this version of eventferry does not have it yet; remove it"
    if issubclass(model, _ProjectionTable):
        for kind, other in TABLES.items():
            if key in other.model_fields:
                return f" here: only {kind} projections have it; remove it"
    close = difflib.get_close_matches(key, known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    if isinstance(value, dict) and issubclass(model, _ProjectionTable):
        return '; a name with dots needs quotes, as in [consuming."a.b"]'
    return f"; known are {', '.join(known)}"


def shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
