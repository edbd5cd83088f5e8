"""What a framework changes that eventferry runs in: it says so here, once it is set up.

Nothing of any framework is imported here. `eventferry.django` calls `use`, all others `current`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Protocol


class HandlerTransactions(Protocol):
    """Where `def` handlers get their transactions from, in any number of threads."""

    def begin(self) -> AbstractContextManager[Any]:
        """A connection in a transaction of its own, good for the block."""

    def drain(self) -> None:
        """Gives up all connections; those in use, when they are given back."""

    def close(self) -> None:
        """Leaves nothing behind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A configuration that stands in the settings of a framework, and in no file of its own."""

    name: str
    """What messages call it: `settings.EVENTFERRY`."""
    path: Path
    """The file with the settings."""
    folder: Path
    """The service's: where its code is imported from."""
    table: Mapping[str, Any]
    """What a `projections.toml` would say."""


class Framework:
    """No framework; one that is says what differs."""

    program: Sequence[str] = (sys.executable, "-m", "eventferry")
    """What starts the command line in a process of its own."""
    async_handlers: str | None = None
    """Why a handler can't be `async def`, and what to do; None: it can."""

    def settings(self) -> Settings | None:
        """The configuration; None: it is in a file.

        Raises:
            ConfigurationError: there is one, but it is no table.
        """
        return None

    def defaults(self) -> Mapping[str, str]:
        """What counts where neither the configuration nor the environment says anything.

        Raises:
            ConfigurationError: what the framework is told to use is nothing for us.
        """
        return MappingProxyType({})

    def local_url(self, configured: str) -> str:
        """The service's own database, where the one that is configured has another one instead.

        Tests of a framework run on a database that it makes for them.
        """
        return configured

    def transactions(self, local_url: str) -> HandlerTransactions | None:
        """Where `def` handlers get their transactions from; None: from connections of ours.

        Args:
            local_url: The service's own database, in which the checkpoints are.

        Raises:
            EventFerryError: those that it has would be in another database.
        """
        return None


NONE: Final = Framework()
_current = NONE


def use(framework: Framework) -> Framework:
    """From now on this process runs in this framework; returns what it ran in before."""
    global _current
    before, _current = _current, framework
    return before


def current() -> Framework:
    """What this process runs in."""
    return _current
