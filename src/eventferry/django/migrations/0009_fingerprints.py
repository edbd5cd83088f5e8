"""As sql/migrations/0009_fingerprints."""

from __future__ import annotations

from django.db import migrations

from eventferry.django.operations import MigrateLocalStore


class Migration(migrations.Migration):
    dependencies = [("eventferry", "0008_charts")]
    operations = [MigrateLocalStore(9)]
