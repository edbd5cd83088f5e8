"""As sql/migrations/0003_waking."""

from __future__ import annotations

from django.db import migrations

from eventferry.django.operations import MigrateLocalStore


class Migration(migrations.Migration):
    dependencies = [("eventferry", "0002_replay")]
    operations = [MigrateLocalStore(3)]
