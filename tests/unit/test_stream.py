"""Stream names: which are possible, and what is said about the others."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventferry.errors import InvalidStreamName
from eventferry.stream import check_stream_name, require_stream_name


@pytest.mark.parametrize(
    "name",
    ["a", "users", "boilerplate-users-stream", "buyer-search_profiles-stream", "a1_-2", "a" * 63],
)
def test_a_good_name_is_accepted(name: str) -> None:
    assert check_stream_name(name) is None
    require_stream_name(name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", "must not be empty"),
        (None, "must be text, not NoneType"),
        (b"a", "must be text, not bytes"),
        ("Users", "did you mean 'users'?"),
        ("UsersStream", "did you mean 'users-stream'?"),
        ("users stream", "did you mean 'users-stream'?"),
        ("users--stream", "did you mean 'users-stream'?"),
        ("-users-", "did you mean 'users'?"),
        ("public.users", "did you mean 'public-users'?"),
        ("users\n", "did you mean 'users'?"),
        ("1users", "'1users' is no stream name"),
        ("é", "'é' is no stream name"),
        ("a" * 64, "is too long: 64 characters, at most 63 are allowed"),
        ("A" * 64, "is no stream name"),
        ("A" * 10_000, "…' is no stream name"),
    ],
)
def test_a_bad_name_is_explained_in_one_line(name: object, expected: str) -> None:
    mistake = check_stream_name(name)
    assert mistake is not None
    assert expected in mistake
    assert "\n" not in mistake
    assert len(mistake) < 300
    with pytest.raises(InvalidStreamName, match=re.escape(expected)):
        require_stream_name(name)


@given(st.text())
def test_a_suggested_name_is_a_good_one(name: str) -> None:
    found = re.search(r"did you mean '(.*)'\?$", check_stream_name(name) or "")
    assert found is None or check_stream_name(found[1]) is None
