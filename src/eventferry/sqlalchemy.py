"""Sessions of SQLAlchemy in handlers, with the extra `sqlalchemy`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from eventferry.engine.context._async import AsyncContext
from eventferry.engine.context._sync import Context

__all__ = ["session"]

S = TypeVar("S")


def session(context: Context | AsyncContext, factory: Callable[..., S]) -> S:
    """The batch's transaction as a session of one's own kind; like `context.session` otherwise.

    Args:
        context: The handler's.
        factory: A sessionmaker, or a class such as SQLModel's `Session`; in `async def` handlers
            one that makes an `AsyncSession`. It is called with `bind` for the batch, once a batch.

    Raises:
        TypeError: it makes no session, or one for the other kind of handler.
        ImportError: SQLAlchemy is not installed.
    """
    return context._sessions().session(factory)
