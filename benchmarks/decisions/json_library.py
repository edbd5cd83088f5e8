"""Which JSON library writes and reads events, and what its guards cost.

orjson and msgspec differ from the standard library where it hurts an event store: what is shown below
the tables. The guards are what would send such a value to the standard library instead.

    python benchmarks/decisions/json_library.py [--seconds 0.5] [--rounds 9]
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Callable

import msgspec
import orjson
from testbed import DATA, METADATA, rounds, show, timed

LONG_INTEGER = re.compile(rb"[0-9]{19}")
LONG_INTEGER_TEXT = re.compile(r"[0-9]{19}")
# Outside strings it can only stand after one of these, so `"a null"` in a text doesn't match often.
INTEGER_AT_VALUE = re.compile(rb"[:\[,]\s*-?[0-9]{19}")


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


def guarded_dumps(value: object) -> bytes:
    try:
        text = orjson.dumps(value)
    except TypeError:  # an integer of more than 64 bits, or something that isn't JSON
        return standard_dumps(value).encode()
    if b"null" in text and has_nan(value):
        raise ValueError("NaN is not JSON")
    if b"\\u0000" in text:
        raise ValueError("PostgreSQL can't look into a text with a NUL")
    return text


def guarded_loads(text: bytes) -> object:
    return json.loads(text) if LONG_INTEGER.search(text) else orjson.loads(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()

    texts = [DATA, METADATA]
    values = [json.loads(text) for text in texts]
    raw = [text.encode() for text in texts]
    encoder, decoder = msgspec.json.Encoder(), msgspec.json.Decoder()

    def each(function: Callable[[object], object], items: list[object]) -> Callable[[], float]:
        def work() -> None:
            for _ in range(500):
                for item in items:
                    function(item)

        return lambda: timed(work, seconds=options.seconds, unit=500)

    dumps: dict[str, Callable[[object], object]] = {
        "orjson": orjson.dumps,
        "orjson, as str": lambda value: orjson.dumps(value).decode(),
        "orjson, guarded": guarded_dumps,
        "msgspec": encoder.encode,
        "json": standard_dumps,
    }
    show(
        "dumps of data and metadata of one event",
        rounds({name: each(one, values) for name, one in dumps.items()}, count=options.rounds),
        baseline="orjson",
        unit="events/s",
    )
    loads: dict[str, Callable[[object], object]] = {
        "orjson": orjson.loads,
        "orjson, guarded": guarded_loads,  # type: ignore[dict-item]
        "msgspec": decoder.decode,
        "json, bytes": json.loads,
    }
    results = {name: each(one, list(raw)) for name, one in loads.items()}
    results["orjson, str"] = each(orjson.loads, list(texts))
    results["json, str"] = each(json.loads, list(texts))
    show("loads of data and metadata of one event", rounds(results, count=options.rounds),
         baseline="orjson", unit="events/s")  # fmt: skip
    guards: dict[str, Callable[[object], object]] = {
        "orjson.loads": orjson.loads,
        'b"null" in text': lambda text: b"null" in text,  # type: ignore[operator]
        'b"\\\\u0000" in text': lambda text: b"\\u0000" in text,  # type: ignore[operator]
        "[0-9]{19}": LONG_INTEGER.search,  # type: ignore[dict-item]
        "[:\\[,]\\s*-?[0-9]{19}": INTEGER_AT_VALUE.search,  # type: ignore[dict-item]
    }
    guarded = {name: each(one, list(raw)) for name, one in guards.items()}
    guarded["[0-9]{19} on str"] = each(LONG_INTEGER_TEXT.search, list(texts))  # type: ignore[arg-type]
    show("guards alone, over data and metadata of one event",
         rounds(guarded, count=options.rounds), baseline="orjson.loads", unit="events/s")  # fmt: skip

    print("\nWhere they differ:")
    for label, value in (
        ("NaN", math.nan), ("2**70", 2**70), ("2**63", 2**63), ("-(2**63)-1", -(2**63) - 1),
        ("lone surrogate", "\ud800"), ("int key", {1: 2}), ("NUL", "\0"), ("tuple", (1, 2)),
    ):  # fmt: skip
        print(f"  dumps {label:15}", end="")
        for name, dump in (("orjson", orjson.dumps), ("msgspec", encoder.encode), ("json", standard_dumps)):
            try:
                print(f" {name}: {dump(value)!r}", end=";")  # type: ignore[operator]
            except Exception as error:
                print(f" {name}: {type(error).__name__}", end=";")
        print()
    for text in (b"1180591620717411303424", b"18446744073709551616", b"-9223372036854775809",
                 b"9223372036854775808", b"1e400", b"NaN", b'{"a":1,"a":2}', b'"\\ud800"', b"1.0"):  # fmt: skip
        print(f"  loads {text.decode():22}", end="")
        for name, load in (("orjson", orjson.loads), ("msgspec", decoder.decode), ("json", json.loads)):
            try:
                print(f" {name}: {load(text)!r}", end=";")  # type: ignore[operator]
            except Exception as error:
                print(f" {name}: {type(error).__name__}", end=";")
        print()


if __name__ == "__main__":
    main()
