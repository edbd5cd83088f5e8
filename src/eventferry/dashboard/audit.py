"""The audit: what somebody has done to projections, and why; in both stores, the latest first."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from starlette.requests import Request

from eventferry import browse
from eventferry.browse import AuditPlace
from eventferry.dashboard.desk import BESIDE, Desk
from eventferry.dashboard.page import Page, Wrong, position

PAGE = 50
FILTERS = ("projection", "who", "action")
ACTIONS = (
    "retry",
    "skip",
    "pause",
    "resume",
    "reset",
    "unpark",
    "stop",
    "add-stream",
    "remove-stream",
    "delete",
)
"""What is offered to choose from; others can be asked for."""


async def audit(desk: Desk, request: Request) -> Page:
    """A page of it."""
    look, asked = await desk.look(times=BESIDE), request.query_params
    wanted = {name: asked.get(name, "").strip() or None for name in FILTERS}
    before = place(asked["before"]) if "before" in asked else None
    async with desk.pools() as pools:
        page = await browse.action_page(pools, **wanted, before=before, limit=PAGE)
    older = page.older and written(page.older)
    given = {name: value for name, value in wanted.items() if value is not None}
    return Page(
        template="audit.html",
        title="Audit",
        data={"filters": wanted, "actions": page.actions, "before": older},
        follows=True,
        view={
            "names": sorted({p.name for p in look.projections}),
            "offered": ACTIONS,
            "given": given,
            "is_filtered": bool(given),
            "is_first": before is None,
            "following": {**given, "before": older} if older else {},
        },
        is_live=before is None,
    )


def written(older: AuditPlace) -> str:
    """Where a page ends, for a link: `local 2026-01-31T12:00:00+00:00 17`, of each store."""
    return " ".join(f"{store} {at.isoformat()} {number}" for store, (at, number) in older.items())


def place(text: str) -> Mapping[str, tuple[datetime, int]]:
    """What a link says of it.

    Raises:
        Wrong: it says something else.
    """
    words = text.split()
    found: dict[str, Any] = {}
    try:
        for store, at, number in zip(words[::3], words[1::3], words[2::3], strict=True):
            found[store] = (datetime.fromisoformat(at), position(number))
    except ValueError:
        found = {}
    known = all(store in ("local", "shared") and at.tzinfo for store, (at, _) in found.items())
    if not found or not known:
        raise Wrong(f"before: expected what a link of the audit says, not {text!r}")
    return found
