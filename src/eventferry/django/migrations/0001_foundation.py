"""As sql/migrations/0001_foundation."""

from __future__ import annotations

from django.db import migrations

from eventferry.django.operations import MigrateLocalStore


class Migration(migrations.Migration):
    initial = True
    operations = [MigrateLocalStore(1)]
