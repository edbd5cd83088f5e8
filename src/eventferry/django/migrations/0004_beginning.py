"""As sql/migrations/0004_beginning."""

from __future__ import annotations

from django.db import migrations

from eventferry.django.operations import MigrateLocalStore


class Migration(migrations.Migration):
    dependencies = [("eventferry", "0003_waking")]
    operations = [MigrateLocalStore(4)]
