"""Waiting until a projection has dealt with events, so that one reads what one has written.

`wait_until_handled` and `async_wait_until_handled` are the same; the first is generated from the
second.
"""

from eventferry.waiting._async import async_wait_until_handled
from eventferry.waiting._sync import wait_until_handled

__all__ = ["async_wait_until_handled", "wait_until_handled"]
