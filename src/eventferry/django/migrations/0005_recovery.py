"""As sql/migrations/0005_recovery."""

from __future__ import annotations

from django.db import migrations

from eventferry.django.operations import MigrateLocalStore


class Migration(migrations.Migration):
    dependencies = [("eventferry", "0004_beginning")]
    operations = [MigrateLocalStore(5)]
