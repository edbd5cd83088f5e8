"""`_json`: what is written is read back equal, or refused with its path."""

from __future__ import annotations

import json
import math
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventferry import _json
from eventferry.errors import InvalidEvent

WHAT = "data of event UserRegistered"

# Any text that PostgreSQL can keep.
texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]))
numbers = (
    st.integers(-(2**80), 2**80)
    | st.sampled_from([2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**19, 2**70])
    | st.floats(allow_nan=False, allow_infinity=False)
)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=20,
)


def written(value: object) -> str:
    return _json.dumps(value, what=WHAT)


def nested(depth: int, *, innermost: Any = None) -> Any:
    value: Any = [innermost]
    for _ in range(depth - 1):
        value = [value]
    return value


def with_types(value: object) -> str:
    """Tells 1 from 1.0 and True, and 0.0 from -0.0, which == does not."""
    return repr(value)


@given(values)
def test_any_json_value_is_read_back_equal_and_of_the_same_types(value: object) -> None:
    assert with_types(_json.loads(written(value))) == with_types(value)


@given(values)
def test_text_and_bytes_read_the_same(value: object) -> None:
    text = written(value)
    assert _json.loads(text.encode()) == _json.loads(text)


@given(values)
def test_what_is_written_is_json_to_the_standard_library_too(value: object) -> None:
    assert with_types(json.loads(written(value))) == with_types(value)


@given(st.integers(), texts)
def test_a_long_integer_is_noticed_wherever_it_stands(number: int, text: str) -> None:
    large = 2**70 + number
    assert _json.loads(written({text: [text, large, text]})) == {text: [text, large, text]}


@given(values)
def test_a_value_is_the_same_as_itself_in_another_order_and_spacing(value: object) -> None:
    reordered = json.dumps(value, sort_keys=True, indent=1)
    assert _json.same(written(value), reordered)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("1", "1.0"),
        ("1", "true"),
        ("0", "false"),
        ("null", "{}"),
        ('"1"', "1"),
        ("[1,2]", "[2,1]"),
        ('{"a":1}', '{"a":2}'),
        ("18446744073709551616", "18446744073709551617"),
        ("0.0", "-0.0"),
    ],
)
def test_different_content_is_not_the_same(a: str, b: str) -> None:
    assert not _json.same(a, b)


def test_compact_text_without_escapes_is_written_by_both_libraries() -> None:
    assert written({"stadt": "Köln", "n": [1, 2]}) == '{"stadt":"Köln","n":[1,2]}'
    assert written({"stadt": "Köln", "n": [1, 2**70]}) == f'{{"stadt":"Köln","n":[1,{2**70}]}}'


@pytest.mark.parametrize("innermost", [None, 2**70, 1, "x"])
def test_nesting_up_to_the_limit_is_read_back(innermost: object) -> None:
    deep = nested(_json.MAX_DEPTH, innermost=innermost)
    assert _json.loads(written(deep)) == deep


@pytest.mark.parametrize("innermost", [None, 2**70, 1])
@pytest.mark.parametrize("depth", [_json.MAX_DEPTH + 1, 5_000])
def test_nesting_beyond_the_limit_is_refused(depth: int, innermost: object) -> None:
    with pytest.raises(InvalidEvent, match=r"data nests more than 254 deep"):
        written(nested(depth, innermost=innermost))


def test_a_value_that_holds_itself_is_refused() -> None:
    value: dict[str, object] = {}
    value["me"] = value
    with pytest.raises(InvalidEvent, match="holds itself"):
        written(value)


def test_nesting_that_python_cannot_read_is_an_error_of_ours() -> None:
    with pytest.raises(InvalidEvent, match="nests too deeply"):
        _json.loads("[" * 100_000 + "]" * 100_000)


class Colour(Enum):
    RED = "red"


class Size(StrEnum):
    LARGE = "L"


@dataclass
class Address:
    zip: str


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"address": {"zip": b"1"}}, 'data["address"]["zip"] is of type bytes, which JSON'),
        ({"a": [1, {2}]}, 'data["a"][1] is of type set'),
        ({"a": Decimal("1.10")}, "write str(value), which keeps every digit"),
        ({"a": datetime(2026, 1, 1, tzinfo=UTC)}, "write value.isoformat()"),
        ({"a": date(2026, 1, 1)}, 'data["a"] is of type date'),
        ({"a": timedelta(1)}, "write value.total_seconds()"),
        ({"a": Address("1")}, "Address, which JSON does not have; write plain data"),
        ({"a": Point(1, 2)}, "Point, which JSON does not have"),
        ({"a": object()}, 'data["a"] is of type object'),
        ({"a": complex(1)}, 'data["a"] is of type complex'),
        ({"a": math.nan}, 'data["a"] is nan; JSON has no such number'),
        ({"a": [None, -math.inf]}, 'data["a"][1] is -inf'),
        ({"a": 2**70, "b": math.inf}, 'data["b"] is inf'),
        ({"a": "x\x00"}, 'data["a"] holds a NUL character; PostgreSQL'),
        ({"a": {"x\x00": 1}}, 'data["a"]["x\\u0000"] holds a NUL character'),
        ({"a": "\ud800"}, 'data["a"] holds half of a surrogate pair'),
        ({"\udfff": 1}, 'data["\\udfff"] holds half of a surrogate pair'),
        ({"a": {1: 2}}, 'data["a"] has the key 1 (int); keys must be text'),
        ({None: 2}, "data has the key None (NoneType)"),
        ({"a": 2**70, 1: 2}, "data has the key 1 (int)"),
        ({"a": 10**5_000}, 'data["a"] is an integer of too many digits'),
    ],
)
def test_what_is_not_json_is_refused_with_its_path(value: object, message: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        written(value)
    assert str(caught.value).startswith(f"{WHAT}: data")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [{"a": "null"}, {"a": "\\u0000"}, {"null": "u0000"}, {"a": None}])
def test_text_that_only_looks_suspicious_is_kept(value: dict[str, object]) -> None:
    assert _json.loads(written(value)) == value


@pytest.mark.parametrize("large", [1, 2**70], ids=["orjson", "standard library"])
def test_both_libraries_write_the_same_plain_values(large: int) -> None:
    value = {
        "uuid": UUID(int=1),
        "enum": Colour.RED,
        "text enum": Size.LARGE,
        "tuple": (1, None),
        "ordered": OrderedDict(a=1),
        "large": large,
    }
    assert _json.loads(written(value)) == {
        "uuid": "00000000-0000-0000-0000-000000000001",
        "enum": "red",
        "text enum": "L",
        "tuple": [1, None],
        "ordered": {"a": 1},
        "large": large,
    }


def test_any_mapping_is_an_object() -> None:
    assert written(MappingProxyType({"a": MappingProxyType({})})) == '{"a":{}}'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "NaN",
        "[Infinity]",
        "[1,]",
        "'a'",
        b"\xff",
        "\ufeff{}",
        "9" * 5_000,
        '{"a":-Infinity}',
    ],
)
def test_what_is_not_json_cannot_be_read(text: str | bytes) -> None:
    with pytest.raises(InvalidEvent, match="not JSON"):
        _json.loads(text)


def test_a_number_too_large_for_a_float_reads_as_the_standard_library_does() -> None:
    # PostgreSQL keeps it in a json column, so a plain INSERT may have brought it.
    assert _json.loads('{"a":1e400}') == {"a": math.inf}


def test_an_error_names_what_it_is_about() -> None:
    with pytest.raises(InvalidEvent, match=r"metadata of event A: metadata\[0\] is of type bytes"):
        _json.dumps([b""], what="metadata of event A")
