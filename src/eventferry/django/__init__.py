"""eventferry for Django: an app. `INSTALLED_APPS = [..., "eventferry.django"]`.

append inside atomic() ──> the transaction of the request, or of the block
handlers with the ORM ───> the transaction of the batch, with its checkpoint (`transactions`)
manage.py eventferry … ──> the whole command line (`management`)
settings.EVENTFERRY ─────> what a projections.toml says (`hosting`)
manage.py migrate ───────> the tables of the local store (`migrations`, `operations`)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from psycopg.pq import TransactionStatus

from eventferry.errors import TransactionRequired
from eventferry.event import Event
from eventferry.store import Appended, EventStore

try:
    from django.db import connections, transaction
except ImportError as error:
    raise ImportError('Django is missing: pip install "eventferry[django]"') from error

from eventferry.django.hosting import alias

__all__ = ["append"]


def append(
    stream: str,
    events: Event | Iterable[Event],
    *,
    expected_version: int | None = None,
    using: str | None = None,
) -> Appended:
    """Appends one event or many in Django's transaction: all of them, or none.

    Inside of `with transaction.atomic():`, or of a view with ATOMIC_REQUESTS. What it does beside
    that, its other arguments and its errors are those of `EventStore.append`.

    Args:
        stream: The name of the stream.
        events: One event or many; their order is kept.
        expected_version: The version that their one entity must be at; None: they get none.
        using: The alias of the database; None: that of the local store, `"default"` unless
            settings.EVENTFERRY says otherwise.

    Raises:
        TransactionRequired: there is no `atomic()` around it, so that the append would be
            committed at once and alone.
    """
    using = using or alias()
    connection: Any = connections[using]
    if not connection.in_atomic_block and connection.get_autocommit():
        raise TransactionRequired(
            "eventferry.django.append was called outside of atomic(), so the append would be "
            "committed at once and alone. Append beside what has happened, inside of "
            f"`with transaction.atomic({_named(using)}):`"
        )
    try:
        with connection.wrap_database_errors:
            return EventStore().append(
                stream, events, expected_version=expected_version, connection=connection
            )
    except Exception:
        # as after any statement that has failed: else who swallows the error commits nothing,
        # and is not told so
        driver = connection.connection
        is_broken = driver and driver.info.transaction_status == TransactionStatus.INERROR
        if is_broken and connection.in_atomic_block:
            transaction.set_rollback(True, using=using)
        raise


def _named(using: str) -> str:
    return "" if using == "default" else f"using={using!r}"
