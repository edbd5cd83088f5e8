"""Act 2: a trickle, and how long an event takes from its append to the other service's handler."""

from __future__ import annotations

from dataclasses import dataclass

from eventferry.demo import journal
from eventferry.demo.process import until
from eventferry.demo.stage import Stage
from eventferry.demo.traffic import made_up
from eventferry.demo.verdict import percentile

PACE_S = 0.04
STALL_S = 30.0
HANDLED_AT = "SELECT event_id, extract(epoch FROM handled_at)::float AS handled_at FROM mails"


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """From before the append, in the one service, to the handler in the other."""

    events: int
    p50_ms: float
    p99_ms: float


def trickle(stage: Stage, seconds: float) -> Latency:
    """Appends some 25 events a second, one by one, and waits until they are handled.

    Raises:
        DemoFailed: nothing moves any more, or a process has ended.
    """
    events = count(seconds)
    expected = stage.count()[2] + events
    writer = stage.start_writer(list(made_up(events, name="late-user")), pace_s=PACE_S)
    until(
        lambda: stage.count()[2] >= expected,
        "the trickle to be handled",
        within_s=STALL_S,
        progress=stage.count,
        check=stage.check,
        every_s=0.25,  # the machine is to have time for the events
    )
    writer.wait(STALL_S)
    handled_at = {row["event_id"]: row["handled_at"] for row in stage.query("mail", HANDLED_AT)}
    waited = [
        (handled_at[id_] - entry.begun_at) * 1000
        for entry in journal.read([stage.last_journal()])
        for id_, _ in entry.events
    ]
    return Latency(events=events, p50_ms=percentile(waited, 0.50), p99_ms=percentile(waited, 0.99))


def count(seconds: float) -> int:
    """How many events a trickle of so many seconds has."""
    return max(1, round(seconds / PACE_S))
