"""A kit for the tests of services: a real PostgreSQL, fresh stores, handlers under test.

Its pytest plugin (`plugin`) is loaded wherever eventferry is installed, so nothing is imported here
before it is used. What is not exported is private.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eventferry.testing.scenario import Outcome, Scenario
    from eventferry.testing.service import ServiceUnderTest

__all__ = ["Outcome", "Scenario", "ServiceUnderTest"]


def __getattr__(name: str) -> object:
    """What is exported, imported when it is asked for."""
    from importlib import import_module

    homes = {"Outcome": "scenario", "Scenario": "scenario", "ServiceUnderTest": "service"}
    if name in homes:
        return getattr(import_module(f"{__name__}.{homes[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
