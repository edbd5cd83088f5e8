"""Invoices are shown and paid here; they are issued in handlers.py, when an order was placed."""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import Depends, FastAPI, HTTPException, Request
from models import Invoice
from pydantic import BaseModel, ConfigDict
from sqlalchemy import select
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from eventferry import AsyncEventStore, Event

store = AsyncEventStore()  # no URL: it appends in the session's transaction


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    url = make_url(os.environ["EVENTFERRY_LOCAL_URL"]).set(drivername="postgresql+psycopg")
    engine = create_async_engine(url)
    app.state.sessions = async_sessionmaker(engine, expire_on_commit=False)
    yield
    await engine.dispose()


async def begin(request: Request) -> AsyncIterator[AsyncSession]:
    async with request.app.state.sessions.begin() as session:
        yield session


# "function": it commits before the answer is sent, which may be told only then
Session = Annotated[AsyncSession, Depends(begin, scope="function")]
app = FastAPI(title="billing", lifespan=lifespan)


class InvoiceShown(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    order_id: str
    email: str
    amount_cents: int
    paid_at: datetime | None


@app.get("/invoices", response_model=list[InvoiceShown])
async def invoices(session: Session) -> Sequence[Invoice]:
    found = await session.scalars(select(Invoice).order_by(Invoice.order_id))
    return found.all()


@app.post("/invoices/{invoice_id}/pay", response_model=InvoiceShown)
async def pay(invoice_id: UUID, session: Session) -> Invoice:
    invoice = await session.get(Invoice, invoice_id, with_for_update=True)
    if invoice is None:
        raise HTTPException(404, f"there is no invoice {invoice_id}")
    if invoice.paid_at is None:
        invoice.paid_at = datetime.now(UTC)
        paid = Event(
            "InvoicePaid",
            {"order_id": invoice.order_id, "amount_cents": invoice.amount_cents},
            entity_id=str(invoice.id),
        )
        await store.append("invoices-stream", paid, expected_version=1, connection=session)
    return invoice
