"""Which failures are alike: by the error's class, what its message always says, and where it arose.

Pure. Of the message, what differs from event to event is left out: numbers, ids, times, quoted
values. Of the traceback, only the innermost frame of the user's own code counts, without its line:
a deployment moves lines about, and a library's frame says little.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path, PureWindowsPath

MAX_TEXT = 500
"""Characters of a message that are looked at: what follows is mostly values."""
DIGITS = 12
"""Of a fingerprint: 48 bits, for what a service has of errors."""


def fingerprint(error: str, traceback: str | None) -> str:
    """The same text for failures that are alike.

    Args:
        error: The error's class and its text: `ValueError: no 7`.
        traceback: As Python writes it; None: not known.
    """
    parts = f"{normalised(error)}\n{origin(traceback or '') or ''}"
    return hashlib.sha256(parts.encode()).hexdigest()[:DIGITS]


def normalised(error: str) -> str:
    """The error without what differs from event to event; `…` stands for it."""
    return " ".join(_VARIABLE.sub("…", error[:MAX_TEXT]).split())


def origin(traceback: str) -> str | None:
    """The innermost frame of the user's code, else of any: `handlers.py in welcome`."""
    frames = _FRAME.findall(traceback.rpartition("Traceback (most recent call last):")[2])
    own = [frame for frame in frames if _is_own(frame[0])]
    for path, function in reversed(own or frames):
        return f"{PureWindowsPath(path).name} in {function}"  # it splits at both slashes
    return None


def _is_own(path: str) -> bool:
    return not (path.startswith(_OURS) or _FOREIGN.search(PureWindowsPath(path).as_posix()))


_VARIABLE = re.compile(
    r"""
      '(?:[^'\\]|\\.)*'(?!\w) | "(?:[^"\\]|\\.)*" | `[^`]*` | “[^”]*”     # quoted values
    | \b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b            # UUIDs
    | \b0x[0-9a-fA-F]+\b                                                  # addresses
    | \b(?=[0-9a-fA-F]*[0-9])[0-9a-fA-F]{8,}\b                            # hashes
    | [^\s@<>()]+@[^\s@<>()]+\.[a-zA-Z]+                                  # mail addresses
    | [-+]?\d+(?:[-.,:T/]\d+)*(?:Z\b)?                                    # numbers, times
    """,
    re.VERBOSE,
)
_FRAME = re.compile(r'^ *File "([^"]+)", line \d+, in (.+)$', re.MULTILINE)
_FOREIGN = re.compile(r"/site-packages/|/dist-packages/|/lib/python3|^<")
_OURS = str(Path(__file__).parent)
