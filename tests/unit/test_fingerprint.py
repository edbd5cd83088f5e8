"""Which failures are alike."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from eventferry import errors
from eventferry.fingerprint import DIGITS, fingerprint, normalised, origin

ALIKE = {
    "numbers": ("ValueError: no 7", "ValueError: no 1,234.5"),
    "negative numbers": ("ValueError: -7 of 3", "ValueError: 12 of 3"),
    "UUIDs": (
        "KeyError: order 01a20b2e-2876-71f9-a6ea-dd9d3f774555",
        "KeyError: order 01A20B2E-0000-71f9-a6ea-dd9d3f774555",
    ),
    "quoted values": ("KeyError: 'email'", "KeyError: 'it\\'s another'"),
    "double quotes": ('Error: "a" is no b', 'Error: "" is no b'),
    "hashes": ("Missing: d41d8cd98f00b204", "Missing: 900150983cd24fb0"),
    "addresses": (
        "TypeError: <object object at 0x7ffbfa3ff510>",
        "TypeError: <object object at 0x1>",
    ),
    "times": ("Late: 2026-01-31T12:00:00.5Z is over", "Late: 2025-12-01T00:00:00Z is over"),
    "mail addresses": ("No user ada@example.org", "No user grace.h@mail.example.com"),
    "white space": ("Error: a\n  b", "Error: a b"),
    "what comes late": (f"Error: {'x' * 500} a", f"Error: {'x' * 500} b"),
    "PostgreSQL's details": (
        'UniqueViolation: "users_pkey"\nDETAIL:  Key (id)=(7) already exists.',
        'UniqueViolation: "users_pkey"\nDETAIL:  Key (id)=(8) already exists.',
    ),
}
DIFFERENT = {
    "classes": ("ValueError: no", "KeyError: no"),
    "words": ("ValueError: no mail", "ValueError: no name"),
    "words with apostrophes": ("E: user's mail isn't there", "E: user's name isn't there"),
    "nothing said": ("ValueError", "ValueError: no"),
}


@pytest.mark.parametrize("what", ALIKE)
def test_what_differs_from_event_to_event_does_not_count(what: str) -> None:
    one, other = ALIKE[what]
    assert normalised(one) == normalised(other)
    assert fingerprint(one, None) == fingerprint(other, None)


@pytest.mark.parametrize("what", DIFFERENT)
def test_other_errors_are_others(what: str) -> None:
    one, other = DIFFERENT[what]
    assert fingerprint(one, None) != fingerprint(other, None)


def frames(*places: str) -> str:
    lines = [
        f'  File "{path}", line 7, in {name}\n    x()' for path, name in map(str.split, places)
    ]
    return "\n".join(["Traceback (most recent call last):", *lines, "ValueError: no"])


ENGINE = "/app/.venv/lib/python3.11/site-packages/eventferry/engine/_sync.py handle"
LIBRARY = "/app/.venv/lib/python3.11/site-packages/httpx/_client.py send"


@pytest.mark.parametrize(
    ("trace", "found"),
    [
        (frames(ENGINE, "/app/handlers.py welcome", LIBRARY), "handlers.py in welcome"),
        (frames(ENGINE, "C:\\app\\handlers.py Mailer.send"), "handlers.py in Mailer.send"),
        (frames(ENGINE, "/usr/lib/python3.11/json/decoder.py decode"), "decoder.py in decode"),
        (frames("<string> run", "/app/a.py one"), "a.py in one"),
        (f"{frames('/app/a.py cause')}\n\n{frames('/app/b.py effect')}", "b.py in effect"),
        (frames("/app/a.py one", f"{Path(errors.__file__)} two"), "a.py in one"),
        ("ValueError: no", None),
        ("", None),
    ],
)
def test_an_error_arises_in_the_users_own_code(trace: str, found: str | None) -> None:
    assert origin(trace) == found


def test_where_it_arose_counts_but_not_on_which_line() -> None:
    trace = frames(ENGINE, "/app/handlers.py welcome")
    one = fingerprint("ValueError: no", trace)
    assert len(one) == DIGITS
    assert fingerprint("ValueError: no", trace.replace("line 7", "line 8")) == one
    assert fingerprint("ValueError: no", trace.replace("welcome", "goodbye")) != one


def test_a_real_traceback_has_its_place() -> None:
    try:
        int("x")
    except ValueError as error:
        trace = "".join(traceback.format_exception(error))
    assert origin(trace) == "test_fingerprint.py in test_a_real_traceback_has_its_place"
