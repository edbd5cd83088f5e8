"""What can go wrong in the demo, said in one message."""

from __future__ import annotations

from eventferry.errors import EventFerryError


class DemoFailed(EventFerryError):
    """The demo can't go on: something did not happen in time, or a process of it ended."""


class DemoMisused(EventFerryError):
    """What was asked of the demo can't be done, such as reading a file that is no CloudEvents."""
