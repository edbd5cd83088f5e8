"""What becomes of a failing event: tried again later, set aside, left out, or waited upon.

    attempts left ───────────────> retrying, until the next attempt is due
    none left ── on_failure ─ stop ─> failed, until somebody retries it
                            ├ park ─> set aside; the later events of its entity wait behind it
                            └ skip ─> left out, and the audit says so
    a storm of them ─────────────> the projection pauses itself: it is hardly their fault

All of it in one transaction that holds the checkpoint, so that nobody has got past meanwhile.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection

from eventferry import sql
from eventferry.assembly import target_of
from eventferry.audit import ITSELF, entry
from eventferry.checkpoint import Checkpoints, moved
from eventferry.engine._async import AsyncPoolTransactions
from eventferry.engine.ferry import FROZEN_S
from eventferry.engine.locking._async import Locked, lock, move
from eventferry.engine.outcome import Applied, Busy, Failed, Halted
from eventferry.errors import TransactionLost
from eventferry.journal import say
from eventferry.pools import Pools
from eventferry.projection import Projection
from eventferry.registry import Recorded, Registry

STORM_S = 60.0
"""In which so many entities fail; the pauses between their attempts are not counted."""


@dataclass(frozen=True, slots=True)
class Storm:
    """So many entities fail alike that the projection has paused itself."""

    reason: str


Settled = Applied | Busy | Halted | Recorded | Storm


async def settle(
    pools: Pools, projection: Projection, failed: Failed, checkpoints: Checkpoints
) -> Settled:
    """Records the failure of the event that follows the checkpoints, and does what is to be done.

    Returns:
        Applied: it is set aside or left out, and the checkpoints are behind it. Recorded: the
        projection stands still. Busy: another runner is at it, or has got past it. Halted: somebody
        has paused the projection, or asked its runs to end, and nothing is recorded.
    """
    registry, service = Registry(pools.local), pools.config.service
    target = target_of(pools, projection)
    async with AsyncPoolTransactions(target).begin() as conn:
        locked = await lock(conn, service, projection.name, checkpoints, idle_timeout_s=FROZEN_S)
        if isinstance(locked, Halted):  # it fails again when it goes on, and is settled then
            await conn.execute(sql.query("excuse_batches"), (service, projection.name))
            return locked
        if not isinstance(locked, Locked):
            return Busy()
        # in this transaction, where it may be: with another connection each, many that fail at
        # once could wait for each other's in a pool
        own = conn if target is pools.local else None
        recorded = await registry.failed(projection, failed, connection=own)
        if recorded.state == "deleted":
            return Busy()
        if own is None or failed.mark is None:
            return recorded
        await conn.execute(sql.query("excuse_batches"), (service, projection.name))
        if recorded.state != "failed" or projection.on_failure == "stop":
            return recorded
        storm = await _storm(conn, service, projection, failed)
        if storm is not None:
            await registry.pause(conn, service, projection.name, by=ITSELF, reason=storm.reason)
            return storm
        await _set_aside(conn, service, projection, failed, recorded)
        await registry.recovered(
            projection.name, failed.mark.event_id, gave_up=True, connection=conn
        )
        after = moved(checkpoints, [failed.mark])
        if not await move(conn, service, projection.name, checkpoints, after, locked):
            raise TransactionLost("the checkpoint moved inside of the transaction that holds it")
    done = "parks" if projection.on_failure == "park" else "skips"
    said = f"{done} {failed.event}, attempt {recorded.attempts} has failed: {failed.summary}"
    fields = {**failed.fields, "attempt": recorded.attempts}
    say(logging.ERROR, projection.name, said, **fields)
    return Applied(after, 1, parked=int(projection.on_failure == "park"))


async def _storm(
    conn: AsyncConnection[Any], service: str, projection: Projection, failed: Failed
) -> Storm | None:
    backoff, longest = projection.backoff.total_seconds(), projection.backoff_max.total_seconds()
    pauses = sum(min(longest, backoff * 2.0**n) for n in range(min(projection.attempts - 1, 64)))
    cursor = await conn.execute(
        sql.query("count_failing"),
        {
            "service": service,
            "projection": projection.name,
            "error_type": failed.error_type,
            "seconds": STORM_S + projection.storm * pauses,
        },
    )
    (entities,) = await cursor.fetchone() or (0,)
    if entities < projection.storm:
        return None
    return Storm(
        f"{entities} entities have failed alike, with {failed.error_type}, so it is hardly their "
        f"fault; the last one: {failed.event}"
    )


async def _set_aside(
    conn: AsyncConnection[Any],
    service: str,
    projection: Projection,
    failed: Failed,
    recorded: Recorded,
) -> None:
    assert failed.mark is not None
    if projection.on_failure == "park":
        await conn.execute(
            sql.query("park_event"),
            (
                projection.name,
                *failed.mark,
                failed.event_type,
                failed.entity_id,
                recorded.attempts,
                failed.error,
                failed.traceback,
                failed.fingerprint,
            ),
        )
    else:
        reason = f"on_failure, after {recorded.attempts} attempts: {failed.error_type}"
        event = {"event": str(failed.mark.event_id), "position": failed.mark.position}
        await conn.execute(*entry(ITSELF, service, projection.name, "skip", reason, **event))
