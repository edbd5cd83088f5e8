"""JSON text in and out: what is written is read back equal, or refused with a reason.

msgspec reads: fast, and exact with integers of any size. orjson writes, because it refuses what is
not JSON; where it is wrong (it writes NaN as null, and refuses integers of more than 64 bits) the
standard library takes over (docs/adr/0006). Writing never leaves text that PostgreSQL keeps and
then can't look into (a NUL character, half of a surrogate pair).

Two things are written as their plain value, because noticing them would cost every event a walk
in Python: a UUID becomes its text, a member of an Enum its value.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Set
from enum import Enum
from typing import Any, NoReturn
from uuid import UUID

import msgspec
import orjson

from eventferry.errors import InvalidEvent

MAX_DEPTH = 254
"""How deep arrays and objects may nest: orjson's limit, kept where the standard library writes.
Fixed, and far below Python's recursion limit: else an event could be written from a shallow
stack that no handler, on a deeper one, can read."""

# Without these orjson would write a dataclass as an object and a datetime as text, which is not
# what is read back. (It refuses all else that is not JSON by itself.)
_OPTIONS = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME

_decode = msgspec.json.Decoder().decode

_ADVICE = {
    "datetime": "write value.isoformat()",
    "date": "write value.isoformat()",
    "time": "write value.isoformat()",
    "timedelta": "write value.total_seconds()",
    "Decimal": "write str(value), which keeps every digit",
    "bytes": "write base64.b64encode(value).decode()",
    "bytearray": "write base64.b64encode(value).decode()",
    "memoryview": "write base64.b64encode(value).decode()",
    "set": "write sorted(value)",
    "frozenset": "write sorted(value)",
}


def dumps(value: object, *, what: str) -> str:
    """`value` as compact JSON.

    Text and not bytes: psycopg would send bytes as a `bytea`.

    Args:
        value: None, bool, int of any size, finite float, str, and lists, tuples and mappings
            (with keys of text) of those.
        what: names the value in errors, its first word the value itself:
            `data of event UserRegistered`.

    Raises:
        InvalidEvent: something inside is not JSON, or is nothing that PostgreSQL can read.
    """
    try:
        encoded = orjson.dumps(value, option=_OPTIONS)
    except TypeError:  # not JSON, or only too large or too deep for orjson: the walk knows
        plain = _Walk(what).start(value)
        return json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # orjson writes NaN as null. Both are also found in harmless text, so only the walk decides.
    if b"null" in encoded or b"\\u0000" in encoded:
        _Walk(what).start(value)
    return encoded.decode()


def loads(text: str | bytes) -> Any:
    """The value of a JSON text, its integers exact whatever their size.

    Raises:
        InvalidEvent: the text is not JSON, or nests too deeply for Python to read.
    """
    try:
        try:
            return _decode(text)
        except msgspec.DecodeError:  # not JSON, or what it won't take: 1e400, half a surrogate pair
            return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise InvalidEvent("not readable JSON: it nests too deeply") from None
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError, more than 4,300 digits
        raise InvalidEvent(f"not JSON: {error}") from error


def same(a: str, b: str, *, but: Set[str] = frozenset()) -> bool:
    """Whether two JSON texts say the same: any order of keys, any spacing.

    `1`, `1.0` and `true` are different.

    Args:
        a: The one.
        b: The other.
        but: Keys of the objects that they are, which are not compared.

    Raises:
        InvalidEvent: one of them is not JSON.
    """
    return a == b or _canonical(a, but) == _canonical(b, but)


def _canonical(text: str, but: Set[str]) -> str:
    value = loads(text)
    if but:
        value = {key: value[key] for key in value if key not in but}
    try:
        return json.dumps(value, sort_keys=True)
    except RecursionError:
        raise InvalidEvent("not comparable JSON: it nests too deeply") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


class _Walk:
    """Goes through a value: returns it in plain types, or says where the mistake is."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._path: list[str | int] = []

    def start(self, value: object) -> object:
        """The value as the standard library writes it right.

        Raises:
            InvalidEvent: with the path of the first mistake.
        """
        try:
            return self._plain(value)
        except RecursionError:  # on a deep stack of the caller's, before our own limit
            return self._refuse_depth()

    def _plain(self, value: object) -> object:
        if value is None or value is True or value is False:
            return value
        if isinstance(value, Enum):
            return self._plain(value.value)
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, int):
            return self._integer(value)
        if isinstance(value, float):
            return self._float(value)
        if isinstance(value, Mapping):
            return self._object(value)
        # A subclass of tuple is a named tuple, whose names would be lost; orjson refuses it too.
        if isinstance(value, list) or type(value) is tuple:
            return self._array(value)
        if isinstance(value, UUID):
            return str(value)
        return self._refuse_type(value)

    def _object(self, value: Mapping[Any, object]) -> dict[str, object]:
        self._check_depth()
        plain: dict[str, object] = {}
        for key, inner in value.items():
            if not isinstance(key, str):
                self._refuse(
                    f"has the key {key!r} ({type(key).__name__})",
                    "keys must be text: write str(key)",
                )
            self._path.append(key)
            plain[self._text(key)] = self._plain(inner)
            self._path.pop()
        return plain

    def _array(self, value: list[object] | tuple[object, ...]) -> list[object]:
        self._check_depth()
        plain: list[object] = []
        for index, inner in enumerate(value):
            self._path.append(index)
            plain.append(self._plain(inner))
            self._path.pop()
        return plain

    def _text(self, value: str) -> str:
        if "\x00" in value:
            self._refuse("holds a NUL character", "PostgreSQL can't read it: remove it")
        try:
            value.encode()
        except UnicodeEncodeError:
            self._refuse("holds half of a surrogate pair", "it is no Unicode text: remove it")
        return str(value)

    def _integer(self, value: int) -> int:
        plain = int(value)
        try:
            str(plain)
        except ValueError:  # sys.set_int_max_str_digits: it could be neither written nor read
            self._refuse("is an integer of too many digits", "write it as text, in hexadecimal")
        return plain

    def _float(self, value: float) -> float:
        if not math.isfinite(value):
            self._refuse(f"is {float(value)}", "JSON has no such number: write None or text")
        return float(value)

    def _check_depth(self) -> None:
        if len(self._path) >= MAX_DEPTH:
            self._refuse_depth()

    def _refuse_depth(self) -> NoReturn:
        self._path.clear()  # hundreds of steps help nobody
        self._refuse(f"nests more than {MAX_DEPTH} deep, or holds itself", "make it flatter")

    def _refuse_type(self, value: object) -> NoReturn:
        kind = type(value)
        if kind.__module__ == "builtins" or kind.__name__ in _ADVICE:
            name = kind.__name__
        else:
            name = f"{kind.__module__}.{kind.__qualname__}"
        advice = _ADVICE.get(name, "write plain data: text, numbers, lists, dicts")
        self._refuse(f"is of type {name}, which JSON does not have", advice)

    def _refuse(self, found: str, advice: str) -> NoReturn:
        root = self._what.partition(" ")[0]
        steps = "".join(
            f"[{step}]" if isinstance(step, int) else f"[{quoted(step)}]" for step in self._path
        )
        raise InvalidEvent(f"{self._what}: {root}{steps} {found}; {advice}")


def quoted(key: str) -> str:
    """The key as Python could write it, in one line that can be printed anywhere."""
    return json.dumps(key, ensure_ascii=not key.isprintable())
