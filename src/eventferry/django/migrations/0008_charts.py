"""As sql/migrations/0008_charts."""

from __future__ import annotations

from django.db import migrations

from eventferry.django.operations import MigrateLocalStore


class Migration(migrations.Migration):
    dependencies = [("eventferry", "0007_waits")]
    operations = [MigrateLocalStore(8)]
