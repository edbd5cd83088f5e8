"""What is kept of a failure can be stored and read, whatever was raised."""

from __future__ import annotations

from uuid import UUID

import pytest

from eventferry.checkpoint import Mark
from eventferry.engine.outcome import MAX_TEXT, Failed


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Outer:
    class Inner(Exception):
        pass


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("no such customer"), "ValueError: no such customer"),
        (ValueError(), "ValueError"),
        (KeyError("n"), "KeyError: 'n'"),
        (SystemExit(3), "SystemExit: 3"),
        (Outer.Inner("in"), "Outer.Inner: in"),
        (ValueError("a\x00b"), "ValueError: a\ufffdb"),
        (ValueError("a\ud800b"), "ValueError: a?b"),
        (Mute(), "Mute: (its text can't be had: RuntimeError)"),
    ],
)
def test_an_error_is_named_and_quoted(error: BaseException, expected: str) -> None:
    failed = Failed.because(error)
    assert failed.error == expected
    failed.traceback.encode()
    assert "\x00" not in failed.traceback


def test_of_a_book_the_beginning_and_the_end_are_kept() -> None:
    failed = Failed.because(ValueError("begin" + "x" * 1_000_000 + "end"))
    assert len(failed.error) < MAX_TEXT + 100
    assert failed.error.startswith("ValueError: begin")
    assert failed.error.endswith("end")
    assert "characters …" in failed.error


def test_the_traceback_leads_to_the_line_and_to_the_cause() -> None:
    def raise_it() -> None:
        try:
            raise LookupError("the cause")
        except LookupError as cause:
            raise ValueError("the error") from cause

    with pytest.raises(ValueError, match="the error") as caught:
        raise_it()
    text = Failed.because(caught.value).traceback
    assert "in raise_it" in text
    assert "LookupError: the cause" in text


def test_a_failure_names_its_event() -> None:
    mark = Mark("users-stream", 7, UUID(int=1))
    failed = Failed.because(ValueError(), mark=mark, event_type="Registered", index=2, alone=False)
    assert (failed.mark, failed.event_type, failed.index, failed.alone) == (
        mark,
        "Registered",
        2,
        False,
    )
