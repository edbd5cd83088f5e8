"""What is broken on purpose, and the test that must notice: a table for `tools/mutants.py`."""

from __future__ import annotations

from dataclasses import dataclass

MIGRATION = "src/eventferry/sql/migrations/0001_foundation"
CREATE_STREAM = f"{MIGRATION}/12_create_stream.sql"
WAKING = "src/eventferry/sql/migrations/0003_waking"
HORIZON = f"{WAKING}/01_horizon.sql"
MARK = f"{WAKING}/02_mark.sql"
QUERIES = "src/eventferry/sql/queries"
ENGINE = "src/eventferry/engine/_async.py"
FERRY = "src/eventferry/engine/ferry.py"
EVENT = "src/eventferry/event.py"
SOURCE = "src/eventferry/source.py"
RUN = "src/eventferry/run.py"
SETTLE = "src/eventferry/settle.py"
RECOVERY = "src/eventferry/sql/migrations/0005_recovery"
STEP = "src/eventferry/step.py"
WORKER = "src/eventferry/worker.py"
WATCH = "src/eventferry/watch.py"
STATUS = "src/eventferry/status.py"
PRESENCE = "src/eventferry/presence.py"
STATISTICS = "src/eventferry/statistics.py"
CHECKPOINT = "src/eventferry/checkpoint.py"

INTERLEAVING = "tests/integration/test_engine_interleaving.py"
TESTS = "tests/integration"


@dataclass(frozen=True, slots=True)
class Change:
    file: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Sabotage:
    name: str
    test: str
    """The test that must notice, and be green without it."""
    changes: tuple[Change, ...]


def sabotage(name: str, test: str, *changes: tuple[str, str, str]) -> Sabotage:
    return Sabotage(name, test, tuple(Change(*change) for change in changes))
