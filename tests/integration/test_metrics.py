"""What Prometheus is told by a worker, as Prometheus itself reads it."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from eventferry import metrics
from eventferry.embedded import EmbeddedServer
from eventferry.health import Health
from eventferry.metrics import Look, Scrape, Totals
from tests.command_line import CommandLine, cloud_event
from tests.conftest import MakeDatabase
from tests.databases import Databases
from tests.environment import REPOSITORY
from tests.probing import ask, port_of, until_said
from tests.promql import TARGETS, asked
from tests.waiting import PATIENCE_S, until

ANY_PORT = ("--http", "127.0.0.1:0")
Labels = frozenset[tuple[str, str]]


@pytest.fixture
def users(tmp_path: Path, make_database: MakeDatabase) -> CommandLine:
    return CommandLine(tmp_path, make_database("local", "users"), make_database("shared")).ready()


@dataclass(frozen=True, slots=True)
class Scraped:
    """What one scrape was told."""

    families: dict[str, Metric]
    samples: dict[tuple[str, Labels], float]

    @classmethod
    def of(cls, port: int) -> Scraped:
        answered = ask(port, "/metrics")
        assert answered.code == 200, answered.body
        assert answered.headers["Content-Type"].startswith("text/plain; version=")
        families = {f.name: f for f in text_string_to_metric_families(answered.body.decode())}
        samples = {
            (s.name, frozenset(s.labels.items())): s.value
            for family in families.values()
            for s in family.samples
        }
        return cls(families, samples)

    def __call__(self, name: str, **labels: str) -> float | None:
        """The value of a metric of service users."""
        labels = {"service": "users", **labels}
        return self.samples.get((f"eventferry_{name}", frozenset(labels.items())))


def until_told(port: int, condition: Callable[[Scraped], object], what: str) -> Scraped:
    last: list[Scraped] = []

    def is_so() -> object:
        last[:] = [Scraped.of(port)]
        return condition(last[0])

    until(is_so, what)
    return last[0]


def told(found: Scraped) -> dict[str, tuple[str, set[str]]]:
    """The type and the labels of each metric of ours."""
    return {
        name: (family.type, {n for s in family.samples for n in s.labels} - {"le"})
        for name, family in found.families.items()
    }


def documented() -> dict[str, tuple[str, set[str]]]:
    """The same as the reference lists them."""
    rows = re.findall(
        r"^\| `(eventferry_\w+)` \| (\w+) \| (.*?) \|",
        (REPOSITORY / "docs/reference/metrics.md").read_text(),
        re.MULTILINE,
    )
    return {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def require_told(found: Scraped) -> None:
    """All that the alerts and the dashboard of `deploy/` ask for."""
    for one in asked():
        for name, wanted in one.selectors.items():
            labels = [dict(its) for sample, its in found.samples if sample == name]
            assert labels, f"{one.who}: nobody tells {name}"
            unknown = (one.labels | set(wanted)) - TARGETS - set(labels[0])
            assert not unknown, f"{one.who}: {name} has no {unknown}"
            for label, value in wanted.items():
                said = {its[label] for its in labels}
                assert value.startswith("$") or value in said, f"{one.who}: no {label} is {value}"


@contextmanager
def working(users: CommandLine) -> Iterator[int]:
    with users.started("worker", "--background", *ANY_PORT) as process:
        port = port_of(process)
        until_said(port, "/readyz", 200, "ready")
        yield port
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0


def test_a_worker_tells_what_it_has_done_and_how_things_are(users: CommandLine) -> None:
    users.break_handler()
    events = "\n".join((cloud_event(1), cloud_event(2), cloud_event(3, "Poison"), cloud_event(4)))
    assert not users("events", "append", "users-stream", stdin=events).code
    with (
        working(users) as port,
        psycopg.connect(users.local_url) as open_append,
    ):
        open_append.execute("INSERT INTO streams.\"users-stream\" (type) VALUES ('Open')")

        mails, ferry = {"projection": "mails-projection"}, {"projection": "users-projection"}
        found = until_told(
            port,
            lambda it: (
                it("projection_state", **mails, state="failed") == 1
                and it("stream_appends_in_flight", store="local", stream="users-stream") == 1
                and it("events_handled_total", **ferry) == 4
                and it("attempts_failed_total", **mails) == 1
            ),
            "it has failed, and an append is open",
        )
    assert found("projection_state", **mails, state="running") == 0
    assert found("events_handled_total", **mails) == 2
    assert found("attempts_retried_total", **mails) == 0
    assert found("events_parked_total", **mails) == 0
    assert found("projection_lag_events", **mails) == 2
    assert (found("projection_lag_seconds", **mails) or 0) > 0
    assert found("projection_failed_attempts", **mails) == 1
    assert found("projection_parked_events", **mails) == 0
    assert found("projection_workers", **mails) == 1
    assert found("projection_position", **mails, stream="users-stream") == 2
    assert found("handler_duration_seconds_count", **mails) == 6
    assert found("handler_duration_seconds_bucket", **mails, le="+Inf") == 6
    assert found("handler_duration_seconds_count", **ferry) == 0
    assert (found("batch_duration_seconds_count", **ferry) or 0) > 0
    assert (found("stream_horizon_age_seconds", store="local", stream="users-stream") or 0) > 0
    assert found("stream_horizon_age_seconds", store="shared", stream="users-stream") == 0
    assert found("store_positions_drawn_total", store="local") == 5
    assert found("up", store="local") == found("up", store="shared") == 1
    assert found("worker_ready") == 1
    assert all(family.documentation for family in found.families.values())
    assert told(found) == documented()
    require_told(found)


@pytest.mark.once  # scrapes are kept for seconds
def test_a_store_that_is_away_is_told_and_costs_no_scrape(
    tmp_path: Path, make_database: MakeDatabase, own_server: EmbeddedServer,
    own_databases: Databases,
) -> None:  # fmt: skip
    users = CommandLine(
        tmp_path, make_database("local", "users"), own_databases.make("shared")
    ).ready()
    with users.started("worker", "--background", *ANY_PORT) as process:
        port = port_of(process)
        long = {"projection": "long-projection"}
        until_told(port, lambda it: it("projection_lag_events", **long) == 0, "it is caught up")
        own_server.stop()
        found = until_told(port, lambda it: it("up", store="shared") == 0, "it is away")
        assert found("up", store="local") == 1
        assert found("store_positions_drawn_total", store="shared") is None
        assert found("events_handled_total", **long) is not None
        assert found("projection_lag_events", **long) == 0
        own_server.start()
        until_told(port, lambda it: it("up", store="shared") == 1, "it is back")


def test_without_the_extra_it_is_said_how_to_get_it(users: CommandLine, tmp_path: Path) -> None:
    without = tmp_path / "without"
    without.mkdir()
    (without / "prometheus_client.py").write_text(
        "raise ModuleNotFoundError('not here', name='prometheus_client')"
    )
    with users.started("worker", *ANY_PORT, PYTHONPATH=f"{without}:{src()}") as process:
        port = port_of(process)
        until_said(port, "/readyz", 200, "ready")
        answered = ask(port, "/metrics")
    assert answered.code == 404
    assert "pip install 'eventferry[prometheus]'" in answered.said["reason"]


def src() -> Path:
    return Path(metrics.__file__).parent.parent


async def test_scrapes_at_once_cost_one_look() -> None:
    looks = 0

    async def look() -> Look:
        nonlocal looks
        looks += 1
        return Look(service="users", drawn={"local": 1, "shared": None})

    scrape = Scrape(asyncio.get_running_loop(), look, Totals("users", ()), Health())
    answers = await asyncio.gather(*(asyncio.to_thread(scrape) for _ in range(5)))
    assert looks == 1
    assert len({answer.body for answer in answers}) == 1
    assert b'eventferry_up{service="users",store="shared"} 0.0' in answers[0].body


async def test_a_loop_that_is_blocked_leaves_what_the_process_has_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(metrics, "LOOK_S", 0.05)
    never = asyncio.Event()

    async def look() -> Look:
        await never.wait()
        raise AssertionError

    scrape = Scrape(asyncio.get_running_loop(), look, Totals("users", ()), Health())
    answer = await asyncio.to_thread(scrape)
    assert answer.status == 200
    assert b'eventferry_worker_ready{service="users"} 0.0' in answer.body
    assert b"eventferry_up" not in answer.body
