"""The shop's tables, and the stream of its events."""

import uuid

import django.db.models.deletion
from django.db import migrations, models

from eventferry.django.operations import CreateStream


class Migration(migrations.Migration):
    initial = True
    dependencies = [("eventferry", "__latest__")]
    operations = [
        migrations.CreateModel(
            name="Customer",
            fields=[
                ("id", models.TextField(primary_key=True, serialize=False)),
                ("email", models.TextField()),
                ("name", models.TextField()),
            ],
        ),
        migrations.CreateModel(
            name="Order",
            fields=[
                (
                    "id",
                    models.UUIDField(default=uuid.uuid4, primary_key=True, serialize=False),
                ),
                ("item", models.TextField()),
                ("amount_cents", models.PositiveIntegerField()),
                ("placed_at", models.DateTimeField(auto_now_add=True)),
                ("invoice_id", models.TextField(null=True)),
                (
                    "customer",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, to="shop.customer"
                    ),
                ),
            ],
        ),
        CreateStream("orders-stream"),
    ]
