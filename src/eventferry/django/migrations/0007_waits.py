"""As sql/migrations/0007_waits."""

from __future__ import annotations

from django.db import migrations

from eventferry.django.operations import MigrateLocalStore


class Migration(migrations.Migration):
    dependencies = [("eventferry", "0006_operation")]
    operations = [MigrateLocalStore(7)]
