"""eventferry in a FastAPI app: a route asks for a transaction by the type of a parameter.

    @app.post("/users")
    async def register(user: NewUser, transaction: AsyncTransaction) -> None: …

What a route writes and appends there is committed before its response is sent, so that nobody is
told of what could still fail; it is rolled back if the route raises, an HTTPException too.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from eventferry import starlette
from eventferry.starlette import EventFerry

try:
    from fastapi import Depends
    from fastapi.concurrency import contextmanager_in_threadpool
    from fastapi.requests import HTTPConnection
except ImportError as error:
    raise ImportError('FastAPI is missing: pip install "eventferry[fastapi]"') from error

__all__ = ["AsyncTransaction", "EventFerry", "Transaction"]


async def _begin_async(connection: HTTPConnection) -> AsyncIterator[starlette.AsyncTransaction]:
    async with _ferry_of(connection).async_transaction() as transaction:
        yield transaction


async def _begin(connection: HTTPConnection) -> AsyncIterator[starlette.Transaction]:
    ferry = _ferry_of(connection)
    async with ferry._turn(), contextmanager_in_threadpool(ferry.transaction()) as transaction:
        yield transaction


# "function": FastAPI otherwise ends a dependency when the response has been sent
AsyncTransaction = Annotated[starlette.AsyncTransaction, Depends(_begin_async, scope="function")]
"""For `async def` routes."""
Transaction = Annotated[starlette.Transaction, Depends(_begin, scope="function")]
"""For `def` routes, which run in threads."""


def _ferry_of(connection: HTTPConnection) -> EventFerry:
    ferry: EventFerry | None = getattr(connection.app.state, "eventferry", None)
    if ferry is None:
        raise RuntimeError(
            "no EventFerry runs for this app: give it `lifespan=ferry.lifespan`, or name it in "
            "`ferry.running(app)` in a lifespan of one's own, also if it is mounted in another "
            "app. In tests, `with TestClient(app)` runs it"
        )
    return ferry
