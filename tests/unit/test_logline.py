"""What of an error gets into a log line, whatever has been raised."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from eventferry.logline import MAX_TRACE, first_line, trace

SECRET = "ada@example.org"


def raised(error: Exception, cause: Exception | None = None) -> Exception:
    try:
        raise error from cause
    except Exception as caught:
        return caught


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_of_a_text_the_first_line_is_logged() -> None:
    assert first_line(f"duplicate key\nDETAIL:  Key (email)=({SECRET})") == "duplicate key"
    assert first_line(f"\n  no such user \n{SECRET}") == "no such user"


def test_pydantic_shows_no_value() -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(int).validate_python(SECRET)
    assert SECRET in str(caught.value)
    assert SECRET not in trace(caught.value)
    assert "ValidationError: 1 validation error for int" in trace(caught.value)


def test_the_trace_leads_through_causes_to_the_error() -> None:
    text = trace(raised(ValueError(f"second\n{SECRET}"), raised(LookupError(f"first\n{SECRET}"))))
    assert text.index("LookupError: first\n") < text.index("ValueError: second\n")
    assert text.count("in raised") == 2
    assert SECRET not in text


def test_the_parts_of_a_group_are_shown() -> None:
    group = ExceptionGroup("two", [raised(ValueError(f"one\n{SECRET}")), raised(Mute())])
    text = trace(raised(group))
    assert "  | ValueError: one\n" in text
    assert "Mute: (its text can't be had: RuntimeError)" in text
    assert SECRET not in text


def test_errors_that_cause_each_other_come_to_an_end() -> None:
    first, second = raised(ValueError("first")), raised(ValueError("second"))
    first.__cause__, second.__cause__ = second, first
    assert trace(first).count("ValueError") == 2


def test_a_long_chain_is_cut() -> None:
    error = raised(ValueError("0"))
    for number in range(1, 500):
        error = raised(ValueError(f"{number} {'x' * 1000}"), error)
    assert len(trace(error)) < MAX_TRACE + 10
    assert "ValueError: 499 x" in trace(error)
