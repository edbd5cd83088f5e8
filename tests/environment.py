"""What tests need and a machine may lack: skipped on a laptop, a failure in CI."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PERMITS = REPOSITORY.parent / "shared" / "data" / "permits.cloudevents.jsonl"
POSTGRES_15 = Path("/usr/lib/postgresql/15/bin")


def require(condition: object, reason: str) -> None:
    """Skips the test with `reason` unless the condition holds; where CI=true, fails it."""
    if condition:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must have it: {reason}", pytrace=False)
    pytest.skip(reason)
