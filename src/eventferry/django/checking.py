"""`manage.py check`: whether the configuration is right, as far as no database is needed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, Error

from eventferry.config import load
from eventferry.errors import ConfigurationError

NOWHERE = {"shared_url": "postgresql://shared.invalid/none"}
"""Stands for a URL that not every environment has: one that builds, or migrates."""


def check_configuration(**_options: Any) -> list[CheckMessage]:
    """An error for each mistake."""
    return list(_errors())


def _errors() -> Iterator[CheckMessage]:
    try:
        load(defaults=NOWHERE)
    except ConfigurationError as error:
        for mistake in error.mistakes:
            yield Error(mistake, id="eventferry.E001")
