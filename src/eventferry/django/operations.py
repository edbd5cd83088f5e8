"""Operations for Django's migrations.

`CreateStream` is for those of your own apps::

    class Migration(migrations.Migration):
        dependencies = [("eventferry", "__latest__")]
        operations = [CreateStream("shop-orders-stream")]
"""

from __future__ import annotations

from typing import Any

from django.db import router
from django.db.migrations.exceptions import IrreversibleError
from django.db.migrations.operations.base import Operation

from eventferry import migration, sql
from eventferry.config import load
from eventferry.connection import translated
from eventferry.django.checking import NOWHERE
from eventferry.django.hosting import alias
from eventferry.store import EventStore
from eventferry.stream import require_stream_name

__all__ = ["CreateStream"]


class _InLocalStore(Operation):
    """Does something in the database that is the local store, and nothing in others."""

    reduces_to_sql = True

    def state_forwards(self, app_label: str, state: Any) -> None:
        """No model changes."""

    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        """Does it, as `migrate` asks."""
        if self._concerns(schema_editor, app_label):
            self.apply(schema_editor)

    def apply(self, schema_editor: Any) -> None:
        """Does it."""
        raise NotImplementedError

    def _concerns(self, schema_editor: Any, app_label: str) -> bool:
        using = schema_editor.connection.alias
        return using == alias() and bool(router.allow_migrate(using, app_label))


class CreateStream(_InLocalStore):
    """Creates a stream in the local store, unless it is there.

    A migration that is taken back leaves the stream: it may hold history.

    Args:
        name: As of `EventStore.create_stream`.
        description: For people, shown by `eventferry streams list`.
    """

    def __init__(self, name: str, description: str | None = None) -> None:
        require_stream_name(name)
        self.name = name
        self.description = description

    def apply(self, schema_editor: Any) -> None:
        """Creates it, in the transaction of the migration."""
        if schema_editor.collect_sql:
            schema_editor.execute(sql.query("create_stream"), [self.name, self.description])
            return
        with schema_editor.connection.wrap_database_errors:
            EventStore().create_stream(
                self.name, description=self.description, connection=schema_editor.connection
            )

    def database_backwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        """Leaves the stream."""

    def describe(self) -> str:
        """For `manage.py migrate --plan`."""
        return f"Create stream {self.name}"

    @property
    def migration_name_fragment(self) -> str:
        """For a migration without a name."""
        return f"create_{self.name}".replace("-", "_")


class MigrateLocalStore(_InLocalStore):
    """Applies one of eventferry's own migrations, unless `eventferry migrate` has.

    Args:
        number: Of the migration.
    """

    def __init__(self, number: int) -> None:
        self.number = number

    def apply(self, schema_editor: Any) -> None:
        """Applies it, in the transaction of Django's migration."""
        service = load(defaults=NOWHERE, import_handlers=False).service
        if schema_editor.collect_sql:
            (one,) = (m for m in migration.known() if m.number == self.number)
            for statement in one.statements:
                schema_editor.execute(statement, params=None)
            schema_editor.execute(sql.query("record_migration"), one.record)
            schema_editor.execute(sql.query("claim_store"), ("local", service))
            return
        connection = schema_editor.connection
        store = f"settings.DATABASES[{connection.alias!r}]"
        connection.ensure_connection()
        with translated(store):
            # begins Django's transaction: else the one in `apply` would be it, and commit it
            connection.connection.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
            migration.apply(
                connection.connection, store, kind="local", service=service, upto=self.number
            )

    def database_backwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        """Refuses."""
        if self._concerns(schema_editor, app_label):
            raise IrreversibleError(
                "eventferry's migrations go forwards only: an older eventferry can work with a "
                "newer schema, unless it says otherwise, so there is nothing to take back"
            )

    def describe(self) -> str:
        """For `manage.py migrate --plan`."""
        return f"Migrate eventferry's local store to {self.number:04}"
