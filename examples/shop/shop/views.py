"""Orders over HTTP."""

import json

from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_GET, require_POST

from eventferry import Event
from eventferry.django import append
from shop.models import Customer, Order


@require_POST
def place(request: HttpRequest) -> JsonResponse:
    """Persists the order, and that it was placed: both, or neither."""
    asked = json.loads(request.body)
    customer = Customer.objects.filter(id=asked["customer_id"]).first()
    if customer is None:
        return JsonResponse({"error": "no such customer"}, status=404)
    with transaction.atomic():
        order = Order.objects.create(
            customer=customer, item=asked["item"], amount_cents=asked["amount_cents"]
        )
        append(
            "orders-stream",
            Event(
                "OrderPlaced",
                {
                    "customer_id": customer.id,
                    "email": customer.email,
                    "item": order.item,
                    "amount_cents": order.amount_cents,
                },
                entity_id=str(order.id),
            ),
            expected_version=0,
        )
    return JsonResponse({"id": str(order.id)}, status=201)


@require_GET
def show(_request: HttpRequest, order_id: str) -> JsonResponse:
    """An order, and its invoice, if the service "billing" has issued one."""
    order = Order.objects.filter(id=order_id).first()
    if order is None:
        return JsonResponse({"error": "no such order"}, status=404)
    return JsonResponse(
        {
            "id": str(order.id),
            "customer_id": order.customer_id,
            "item": order.item,
            "amount_cents": order.amount_cents,
            "invoice_id": order.invoice_id,
        }
    )


@require_GET
def customers(_request: HttpRequest) -> JsonResponse:
    """The customers, as the service "users" has registered them."""
    return JsonResponse({"customers": list(Customer.objects.order_by("id").values())})
