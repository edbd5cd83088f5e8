"""What billing does about what other services say happened."""

from uuid import uuid4

from models import Invoice

from eventferry import AsyncContext, Event, EventMapper, RecordedEvent


class OrderPlaced(EventMapper):
    """An event of the service "shop"; its entity is the order."""

    @property
    def email(self) -> str:
        return self.get("email")

    @property
    def amount_cents(self) -> int:
        return self.get("amount_cents")


async def issue(event: RecordedEvent, context: AsyncContext) -> None:
    """The invoice, its event and the checkpoint are one transaction."""
    order = OrderPlaced(event)
    invoice = Invoice(
        id=uuid4(), order_id=event.entity_id, email=order.email, amount_cents=order.amount_cents
    )
    context.session.add(invoice)
    issued = Event(
        "InvoiceIssued",
        {"order_id": invoice.order_id, "amount_cents": invoice.amount_cents},
        entity_id=str(invoice.id),
    )
    await context.append("invoices-stream", issued, expected_version=0)
