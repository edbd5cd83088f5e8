"""As sql/migrations/0006_operation."""

from __future__ import annotations

from django.db import migrations

from eventferry.django.operations import MigrateLocalStore


class Migration(migrations.Migration):
    dependencies = [("eventferry", "0005_recovery")]
    operations = [MigrateLocalStore(6)]
