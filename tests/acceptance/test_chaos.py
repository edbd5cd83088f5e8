"""Everything goes wrong at once, at seeded moments; in the end nothing is lost, doubled or stuck.

The seed is printed; EVENTFERRY_CHAOS_SEED sets it. It decides which faults strike, in which order
and for how long; what they meet is up to the machine.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.chaos.fault import Faults
from tests.chaos.landscape import Landscape, landscape
from tests.chaos.writer import Writer

pytestmark = pytest.mark.once

SEED = int(os.environ.get("EVENTFERRY_CHAOS_SEED") or random.randrange(10**6))
WRITERS = 2
"""Of each stream."""


def test_nothing_is_lost_doubled_or_stuck_when_everything_goes_wrong_once(tmp_path: Path) -> None:
    with landscape(tmp_path, [["worker", "--background"]] * 2) as there:
        faults = run(there, times=1)
    assert set(faults.count.values()) == {1}


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_nothing_is_lost_doubled_or_stuck_when_everything_goes_wrong_all_the_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workers = [["worker"], ["worker", "--background"], ["worker", "--background"]]
    with landscape(tmp_path, workers) as there, capsys.disabled():
        faults = run(there, times=18)
        begun, committed = there.batches()
    assert faults.count.total() >= 200
    assert min(faults.count.values()) >= 15
    assert begun - committed > 50


def run(there: Landscape, *, times: int) -> Faults:
    """Strikes with all kinds of faults so many times, while events come; checks the promises."""
    print(f"\nEVENTFERRY_CHAOS_SEED={SEED}")
    faults = Faults(there, SEED)
    stopping = threading.Event()
    writers = [
        Writer(store.url, stream, there.ledgers[stream], random.Random(f"{SEED} {n}"), stopping)
        for n in range(WRITERS)
        for stream, store in there.streams.items()
    ]
    there.supervisor.start()
    with ThreadPoolExecutor(len(writers)) as pool:
        writing = [pool.submit(writer.run) for writer in writers]
        try:
            there.until_running()
            faults.strike(times)
        finally:
            stopping.set()
    for each in writing:
        each.result()
    over = time.monotonic()
    there.until_recovered()
    recovered_s = time.monotonic() - over
    there.supervisor.stop()
    for service in there.services:
        assert set(service.stop()) <= {0, -signal.SIGTERM}, "done, or only just starting"
    print(report(there, faults, recovered_s))
    there.require_promises()
    assert there.struck("exited") == faults.count["handler exits"]
    assert there.struck("raised") >= faults.count["handler raises"]
    return faults


def report(there: Landscape, faults: Faults, recovered_s: float) -> str:
    kinds = " · ".join(f"{kind} {count}" for kind, count in sorted(faults.count.items()))
    begun, committed = there.batches()
    raised, exited = there.struck("raised"), there.struck("exited")
    lines = [
        f"{faults.count.total()} faults: {kinds}",
        *(
            f"{stream}: " + ", ".join(f"{n} {outcome}" for outcome, n in ledger.count().items())
            for stream, ledger in there.ledgers.items()
        ),
        f"batches: {begun} begun, {begun - committed} of them aborted",
        f"of these by errors of handlers {raised}, by exits {exited}, the rest by other faults",
        f"failed attempts recorded: {dict(there.failures())}",
        f"recovered after {recovered_s:.1f} s",
    ]
    return "\n".join(lines)
