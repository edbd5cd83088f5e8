"""Who did what to a projection, when and why; written in the transaction that does it."""

from __future__ import annotations

from typing import Any

from psycopg.types.json import Jsonb

from eventferry import sql
from eventferry.engine._async import Change

USER_VARIABLE = "EVENTFERRY_USER"
"""Says in whose name a command is given."""
ITSELF = "eventferry"
"""Who did it, where no person has but the projection's policy."""


def entry(
    who: str, service: str, projection: str, action: str, reason: str | None = None, **details: Any
) -> Change:
    """The statement that writes a line of the audit, and its parameters."""
    return sql.query("record_action"), (who, service, projection, action, reason, Jsonb(details))
