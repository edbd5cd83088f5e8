"""The tests' databases have the service's tables."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def eventferry_schema() -> Path:
    return Path(__file__).with_name("schema.sql")
