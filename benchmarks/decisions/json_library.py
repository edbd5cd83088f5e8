"""Which JSON library writes and reads events, and what its guards cost.

Where orjson and msgspec differ from the standard library is shown below the tables. The guards are
what finds such a value, to refuse it or to hand it to the standard library.

    python -m benchmarks.decisions.json_library [--seconds 0.5] [--rounds 9]
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import orjson

from benchmarks.decisions.testbed import DATA, METADATA, rounds, show, timed
from eventferry import _json

encode, decode = msgspec.json.Encoder().encode, msgspec.json.Decoder().decode


def standard_dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def has_nan(value: object) -> bool:
    """Whether a NaN or an infinity is in there: the exact check that b"null" asks for."""
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(has_nan(one) for one in value.values())
    if isinstance(value, (list, tuple)):
        return any(has_nan(one) for one in value)
    return False


def msgspec_dumps(value: object) -> bytes:
    text: bytes = encode(value)
    if b"null" in text and has_nan(value):
        raise ValueError("NaN is not JSON")
    if b"\\u0000" in text:
        raise ValueError("PostgreSQL can't look into a text with a NUL")
    return text


def msgspec_loads(text: bytes) -> object:
    try:
        return decode(text)
    except msgspec.DecodeError:  # 1e400, a lone surrogate: JSON that other clients may have stored
        return json.loads(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()

    texts = [DATA, METADATA]
    values = [json.loads(text) for text in texts]
    raw = [text.encode() for text in texts]

    def each(function: Callable[[Any], object], items: list[object]) -> Callable[[], float]:
        def work() -> None:
            for _ in range(500):
                for item in items:
                    function(item)

        return lambda: timed(work, seconds=options.seconds, unit=500)

    dumps: dict[str, Callable[[Any], object]] = {
        "orjson": orjson.dumps,
        "orjson, as str": lambda value: orjson.dumps(value).decode(),
        "eventferry._json": lambda value: _json.dumps(value, what="data"),
        "msgspec": encode,
        "msgspec, guarded": msgspec_dumps,
        "json": standard_dumps,
    }
    show(
        "dumps of data and metadata of one event",
        rounds({name: each(one, values) for name, one in dumps.items()}, count=options.rounds),
        baseline="orjson",
        unit="events/s",
    )
    loads: dict[str, Callable[[Any], object]] = {
        "orjson": orjson.loads,
        "eventferry._json": _json.loads,
        "msgspec": decode,
        "msgspec, guarded": msgspec_loads,
        "json, bytes": json.loads,
    }
    results = {name: each(one, list(raw)) for name, one in loads.items()}
    results["orjson, str"] = each(orjson.loads, list(texts))
    results["json, str"] = each(json.loads, list(texts))
    show(
        "loads of data and metadata of one event",
        rounds(results, count=options.rounds),
        baseline="orjson",
        unit="events/s",
    )
    print("\nWhere they differ:")
    for label, value in (
        ("NaN", math.nan),
        ("2**70", 2**70),
        ("2**63", 2**63),
        ("-(2**63)-1", -(2**63) - 1),
        ("lone surrogate", "\ud800"),
        ("int key", {1: 2}),
        ("NUL", "\0"),
        ("tuple", (1, 2)),
        ("bytes", b"a"),
        ("Decimal", Decimal("1.10")),
        ("set", {1}),
        ("float 1e22", 1e22),
    ):
        print(f"  dumps {label:15}", end="")
        for name, dump in (("orjson", orjson.dumps), ("msgspec", encode), ("json", standard_dumps)):
            try:
                print(f" {name}: {dump(value)!r}", end=";")
            except Exception as error:
                print(f" {name}: {type(error).__name__}", end=";")
        print()
    for text in (
        b"1180591620717411303424",
        b"18446744073709551616",
        b"-9223372036854775809",
        b"9223372036854775808",
        b"1e400",
        b"NaN",
        b'{"a":1,"a":2}',
        b'"\\ud800"',
        b"1.0",
    ):
        print(f"  loads {text.decode():22}", end="")
        for name, load in (("orjson", orjson.loads), ("msgspec", decode), ("json", json.loads)):
            try:
                print(f" {name}: {load(text)!r}", end=";")
            except Exception as error:
                print(f" {name}: {type(error).__name__}", end=";")
        print()


if __name__ == "__main__":
    main()
