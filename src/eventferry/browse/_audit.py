"""What somebody has done to projections, page by page, from both stores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.rows import dict_row

from eventferry import sql
from eventferry.browse._event import environments
from eventferry.browse._look import looking
from eventferry.history import Action
from eventferry.pools import Pools

AUDIT_LOOKED_AT = 20_000
"""Lines of each store that are looked at for a page, at most."""

AuditPlace = Mapping[str, tuple[datetime, int]]
"""Where a page of the audit ends: of each environment the time and the number of a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionPage:
    """Some of what has been done; the latest first."""

    actions: list[Action]
    older: AuditPlace | None
    """Go on with this `before`; None: there are no older ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lines:
    """What a store has of a page."""

    environment: str
    lines: list[tuple[tuple[datetime, int], Action]]
    end: tuple[datetime, int] | None
    """Where the looking ended; None: there is nothing behind."""


async def action_page(
    pools: Pools,
    *,
    projection: str | None = None,
    who: str | None = None,
    action: str | None = None,
    before: AuditPlace | None = None,
    limit: int = 50,
) -> ActionPage:
    """What has been done to this service's projections, in both stores.

    Args:
        pools: Connections to the stores.
        projection: To this one; None: to any.
        who: By this one; None: by anybody.
        action: `retry`, `skip`, …; None: any.
        before: Only what is behind the end of a page.
        limit: How many lines at most.
    """
    wanted = {
        "service": pools.config.service,
        "projection": projection,
        "who": who,
        "action": action,
        "look": AUDIT_LOOKED_AT,
        "limit": limit + 1,
    }
    found = []
    for name in environments(pools):
        if before is not None and name not in before:
            continue
        at, id_ = before[name] if before else (None, None)
        async with (
            looking(pools.of(name), pools.shown(name)) as conn,
            conn.cursor(row_factory=dict_row) as cursor,
        ):
            await cursor.execute(sql.query("audit_page"), wanted | {"at": at, "id": id_})
            found.append(_lines(name, await cursor.fetchall(), limit))
    return merged(found, limit)


def _lines(environment: str, rows: Sequence[dict[str, Any]], limit: int) -> _Lines:
    lines = []
    is_cut = bool(rows) and rows[-1]["place"] >= AUDIT_LOOKED_AT
    end = (rows[-1]["at"], rows[-1]["id"]) if is_cut else None
    for row in rows:
        del row["place"]
        key = row["at"], row.pop("id")
        if row.pop("is_wanted"):
            lines.append((key, Action(**row)))
    if len(lines) > limit:
        end = lines[-1][0]
    return _Lines(environment=environment, lines=lines, end=end)


def merged(found: Sequence[_Lines], limit: int) -> ActionPage:
    """The page of what the stores have; nothing that is older than where one of them ended."""
    ends = [store.end[0] for store in found if store.end is not None]
    oldest = max(ends, default=None)
    candidates = [
        (key[0], store.environment, action)
        for store in found
        for key, action in store.lines
        if oldest is None or key[0] >= oldest
    ]
    candidates.sort(key=lambda line: line[0], reverse=True)
    shown = candidates[:limit]
    older: dict[str, tuple[datetime, int]] = {}
    for store in found:
        count = sum(environment == store.environment for _, environment, _ in shown)
        if count == len(store.lines):
            if store.end is not None:
                older[store.environment] = store.end
        elif count:
            older[store.environment] = store.lines[count - 1][0]
        else:  # from its first line on, this one too
            (at, number), _ = store.lines[0]
            older[store.environment] = at, number + 1
    return ActionPage(actions=[action for *_, action in shown], older=older or None)
