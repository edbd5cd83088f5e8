"""What billing does, on a real PostgreSQL: see eventferry's testing kit."""

from app import app
from fastapi.testclient import TestClient

from eventferry import Event
from eventferry.testing import ServiceUnderTest

PLACED = Event(
    "OrderPlaced", {"email": "ada@example.org", "amount_cents": 1250}, entity_id="order-1"
)


def test_an_order_is_billed(eventferry_service: ServiceUnderTest) -> None:
    issued = Event("InvoiceIssued", {"order_id": "order-1", "amount_cents": 1250})
    (
        eventferry_service.given(PLACED)
        .when_handled_by("invoicing-projection")
        .then(
            "SELECT order_id, email, amount_cents FROM invoices",
            ("order-1", "ada@example.org", 1250),
        )
        .then_appended("invoices-stream", issued)
    )


def test_an_order_is_billed_once_whenever_the_worker_is_killed(
    eventferry_service: ServiceUnderTest,
) -> None:
    eventferry_service.run_with_crashes(
        "invoicing-projection",
        [PLACED],
        effects="SELECT order_id, email, amount_cents FROM invoices",
    )


def test_an_invoice_is_paid_once(eventferry_service: ServiceUnderTest) -> None:
    eventferry_service.given(PLACED).when_handled_by("invoicing-projection")
    with TestClient(app) as client:
        (invoice,) = client.get("/invoices").json()
        paid = client.post(f"/invoices/{invoice['id']}/pay").json()
        assert client.post(f"/invoices/{invoice['id']}/pay").json() == paid

    assert paid["paid_at"] is not None
    types = [event.type for event in eventferry_service.events("invoices-stream")]
    assert types == ["InvoiceIssued", "InvoicePaid"]
