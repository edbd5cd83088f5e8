"""As sql/migrations/0002_replay."""

from __future__ import annotations

from django.db import migrations

from eventferry.django.operations import MigrateLocalStore


class Migration(migrations.Migration):
    dependencies = [("eventferry", "0001_foundation")]
    operations = [MigrateLocalStore(2)]
