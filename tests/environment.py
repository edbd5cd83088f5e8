"""What tests need and a machine may lack: skipped on a laptop, a failure in CI."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from eventferry.testing.server import MEMORY

REPOSITORY = Path(__file__).resolve().parent.parent
PERMITS = REPOSITORY.parent / "shared" / "data" / "permits.cloudevents.jsonl"

EMBEDDED = 18
"""The PostgreSQL of the extra `embedded`."""
POSTGRES = int(os.environ.get("EVENTFERRY_TEST_POSTGRES", EMBEDDED))
"""Which PostgreSQL the tests run on; another one than the embedded comes from the system."""
PROGRAMS = None if POSTGRES == EMBEDDED else Path(f"/usr/lib/postgresql/{POSTGRES}/bin")
"""Where its programs are; None: in the extra."""

MEMORY_NEEDED = 8 * 2**30


def use_memory() -> None:
    """Puts what tests write into memory, where there is enough: the servers' files, above all.

    A database is hundreds of files, and most tests make one or more.
    """
    is_chosen = "TMPDIR" in os.environ
    if not is_chosen and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > MEMORY_NEEDED:
        os.environ["TMPDIR"] = str(MEMORY)
        tempfile.tempdir = None  # it is asked for again


def require(condition: object, reason: str) -> None:
    """Skips the test with `reason` unless the condition holds; where CI=true, fails it."""
    if condition:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must have it: {reason}", pytrace=False)
    pytest.skip(reason)
