"""What the shop does, on a real PostgreSQL: see eventferry's testing kit."""

import pytest
from django.test import Client
from shop.models import Customer, Order

from eventferry import Event
from eventferry.testing import ServiceUnderTest

ADA = {"name": "Ada", "email": "ada@example.org"}
REGISTERED = Event("UserRegistered", ADA, entity_id="ada")


@pytest.fixture
def ada() -> Customer:
    return Customer.objects.create(id="ada", **ADA)


def test_who_registers_is_a_customer(service: ServiceUnderTest) -> None:
    service.given(REGISTERED, environment="shared").when_handled_by("customers-projection")

    assert Customer.objects.values("id", "name", "email").get() == {"id": "ada", **ADA}


def test_a_customer_is_registered_once_whenever_the_worker_is_killed(
    service: ServiceUnderTest,
) -> None:
    service.run_with_crashes("customers-projection", [REGISTERED])


def test_an_order_is_kept_and_told_of(service: ServiceUnderTest, ada: Customer) -> None:
    asked = {"customer_id": ada.id, "item": "a loom", "amount_cents": 1250}

    answer = Client().post("/orders", asked, content_type="application/json")

    order = Order.objects.get(id=answer.json()["id"])
    placed = Event("OrderPlaced", asked | {"email": ada.email}, entity_id=str(order.id))
    service.assert_appended("orders-stream", placed)
    service.run_until_idle()
    service.assert_appended("orders-stream", placed, environment="shared")


def test_who_is_no_customer_orders_nothing(service: ServiceUnderTest) -> None:
    asked = {"customer_id": "nobody", "item": "a loom", "amount_cents": 1250}

    assert Client().post("/orders", asked, content_type="application/json").status_code == 404

    assert service.events("orders-stream") == []


def test_an_order_has_the_invoice_that_was_issued(service: ServiceUnderTest, ada: Customer) -> None:
    order = Order.objects.create(customer=ada, item="a loom", amount_cents=1250)
    data = {"order_id": str(order.id), "amount_cents": 1250}

    issued = Event("InvoiceIssued", data, entity_id="invoice-1")
    service.given(issued, environment="shared").when_handled_by("billed-projection")

    order.refresh_from_db()
    assert order.invoice_id == "invoice-1"
