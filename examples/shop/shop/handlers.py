"""What happened elsewhere, written to the shop's tables: each in the transaction of its batch."""

from eventferry import EventMapper, RecordedEvent
from shop.models import Customer, Order


class UserRegistered(EventMapper):
    """An event of the service "users"; its entity is the user."""

    @property
    def email(self) -> str:
        return self.get("email")

    @property
    def name(self) -> str:
        return self.get("name")


class InvoiceIssued(EventMapper):
    """An event of the service "billing"; its entity is the invoice."""

    @property
    def order_id(self) -> str:
        return self.get("order_id")


def register_customer(event: RecordedEvent) -> None:
    user = UserRegistered(event)
    Customer.objects.create(id=event.entity_id, email=user.email, name=user.name)


def mark_billed(event: RecordedEvent) -> None:
    invoice = InvoiceIssued(event)
    Order.objects.filter(id=invoice.order_id).update(invoice_id=event.entity_id)
