"""Names of streams: which are possible, and what to say about the others.

A stream is a table of the same name, so the rule is made for names that need no care anywhere:
in a shell, in a URL, in TOML, and (but for the quotes) in SQL.
"""

from __future__ import annotations

import re

from eventferry.errors import InvalidStreamName

MAX_BYTES = 63
"""PostgreSQL cuts longer names of tables off, silently."""

_NAME = re.compile(r"[a-z][a-z0-9_]*(-[a-z0-9_]+)*")


def check_stream_name(name: object) -> str | None:
    """What is wrong with a name, in one line, and if possible a better one; None if nothing is."""
    if not isinstance(name, str):
        return f"a stream name must be text, not {type(name).__name__}"
    if not name:
        return "a stream name must not be empty"
    if not _NAME.fullmatch(name):
        return (
            f"{_shown(name)} is no stream name: it must be lower-case letters, digits and "
            f"underscores, begin with a letter, and may have single hyphens between{_better(name)}"
        )
    if len(name) > MAX_BYTES:
        return (
            f"{_shown(name)} is too long: {len(name)} characters, at most {MAX_BYTES} are allowed"
        )
    return None


def require_stream_name(name: object) -> None:
    """Returns if the name is one that a stream can have.

    Raises:
        InvalidStreamName: with what is wrong.
    """
    mistake = check_stream_name(name)
    if mistake is not None:
        raise InvalidStreamName(mistake)


def _better(name: str) -> str:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()
    better = re.sub(r"[^a-z0-9_]+", "-", words).strip("-")
    if len(better) > MAX_BYTES or not _NAME.fullmatch(better):
        return ""
    return f"; did you mean {better!r}?"


def _shown(name: str) -> str:
    return repr(name if len(name) <= 80 else f"{name[:80]}…")
