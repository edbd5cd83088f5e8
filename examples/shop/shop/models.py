"""The shop's own tables."""

import uuid

from django.db import models


class Customer(models.Model):
    """A user of the service "users", as far as the shop needs to know."""

    id = models.TextField(primary_key=True)
    email = models.TextField()
    name = models.TextField()


class Order(models.Model):
    """What a customer has ordered."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    customer = models.ForeignKey(Customer, on_delete=models.PROTECT)
    item = models.TextField()
    amount_cents = models.PositiveIntegerField()
    placed_at = models.DateTimeField(auto_now_add=True)
    invoice_id = models.TextField(null=True)
