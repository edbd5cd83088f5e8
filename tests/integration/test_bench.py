"""`eventferry bench`: what it measures, finds, refuses and leaves. How fast it is is no test's."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from eventferry import embedded
from eventferry.bench import FIGURES, catching_up, handlers, scale, stage
from eventferry.bench.figure import compare
from eventferry.cli import main
from eventferry.embedded import EmbeddedServer
from eventferry.event import RecordedEvent
from eventferry.handler import handler_of
from eventferry.server_folder import SUPERUSER
from tests.command_line import PROGRAM, Done
from tests.processes import PROC, running, working_in
from tests.services import query
from tests.waiting import until

QUICK = ("--rounds", "1", "--events", "1000")
BENCHED = "SELECT datname FROM pg_database WHERE starts_with(datname, 'eventferry_bench_')"
CONDITIONS = {
    *("begun_at", "eventferry", "python", "psycopg", "postgresql", "settings", "is_embedded"),
    *("cpus", "machine", "rounds", "events"),
}
FIGURE = {
    *("key", "what", "unit", "ours", "limit_is", "limit", "value", "lowest", "highest"),
    *("target", "better", "rounds", "note", "is_met"),
}

Bench = Callable[..., Done]
Handle = Callable[[RecordedEvent], None]


@pytest.fixture
def bench(server: EmbeddedServer) -> Iterator[Bench]:
    """The command on the tests' server, which it has to leave as it was."""

    def bench(*arguments: str, url: str | None = server.url()) -> Done:
        out, err = io.StringIO(), io.StringIO()
        given = ("--local-url", url) if url else ()
        with redirect_stdout(out), redirect_stderr(err):
            code = main(["bench", *QUICK, *given, *arguments])
        return Done(code, out.getvalue(), err.getvalue())

    yield bench
    assert query(server.url(), BENCHED) == []


def figures(done: Done) -> list[dict[str, Any]]:
    """What was measured."""
    found = done.envelope["data"]["figures"]
    assert isinstance(found, list)
    return found


@pytest.mark.once
@pytest.mark.once
@pytest.mark.parametrize("lines", ["acdefgh", "bn", "ijkl", "op"])
def test_every_line_can_be_measured(bench: Bench, lines: str) -> None:
    done = bench("--only", ",".join(lines), "--json")

    assert done.code == 0, done
    assert [*dict.fromkeys(figure["key"] for figure in figures(done))] == [*lines]
    for figure in figures(done):
        assert set(figure) == FIGURE
        assert figure["ours"] >= 0
        assert (figure["limit"] is None) == (figure["limit_is"] is None)


def test_the_lines_of_the_issue_are_all_there() -> None:
    assert "".join(FIGURES) == "abcdefghijklnop"


def test_its_answer_is_json_alone_and_says_what_one_needs_to_compare(bench: Bench) -> None:
    done = bench("--only", "d", "--json")

    answer = done.envelope
    assert (done.code, answer["ok"], answer["errors"]) == (0, True, [])
    conditions = answer["data"]["conditions"]
    assert set(conditions) == CONDITIONS
    assert (conditions["rounds"], conditions["events"]) == (1, 1_000)
    assert conditions["settings"]["shared"]["fsync"] == "off", "that of the tests' server"
    assert not conditions["is_embedded"]
    assert "d  read, 1,000 a page" in done.err, "told while it is measured"


def test_in_a_pipe_it_is_a_table_and_a_target_that_is_missed_is_no_failure(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "eventferry.bench.catching_up.compare",
        lambda *of, **options: compare(*of, **{**options, "target": 1e9}),
    )

    done = bench("--only", "d")

    assert done.code == 0
    head, row, conditions = done.out.splitlines()
    assert head.split("\t")[1:4] == ["figure", "here", "limit"]
    assert row.split("\t")[:2] == ["d", "read, 1,000 a page"]
    assert row.endswith("no")
    assert "1 round, 1,000 events" in conditions


LOST = """
CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.place = 7 THEN RETURN NULL; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER spoil BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION spoil();
"""
DOUBLED = """
CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO {table} ({columns}) SELECT {columns} FROM {table} LIMIT 1;
    RETURN NULL;
END $$;
CREATE TRIGGER spoil AFTER INSERT ON {table} FOR EACH STATEMENT WHEN (pg_trigger_depth() = 0)
    EXECUTE FUNCTION spoil();
"""
REORDERED = "ALTER TABLE {table} ALTER place SET INCREMENT -1 SET MINVALUE -1000000;"


@pytest.mark.parametrize("spoiled", [LOST, DOUBLED, REORDERED], ids=["lost", "doubled", "order"])
def test_what_is_lost_doubled_or_reordered_is_found_and_the_other_lines_go_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, spoiled: str
) -> None:
    columns = ", ".join(catching_up.READ_MODEL)
    spoiling = spoiled.format(table="effects", columns=columns)
    monkeypatch.setattr(catching_up, "EFFECTS", catching_up.EFFECTS + ";" + spoiling)

    done = bench("--only", "f,d", "--json")

    assert done.code == 1
    (error,) = done.envelope["errors"]
    assert error["type"] == "NotKept"
    assert error["message"].startswith("line f: effects are lost, doubled or reordered")
    assert [figure["key"] for figure in figures(done)] == ["d"]


BACKWARDS = f"""
ALTER TABLE streams."{stage.STREAM}" ALTER position SET DEFAULT 10000000 - nextval('plain_position')
"""


def test_a_figure_of_appends_that_are_out_of_order_is_not_kept(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "PLAIN", stage.PLAIN + BACKWARDS)

    done = bench("--only", "c", "--json")

    assert done.code == 1
    (error,) = done.envelope["errors"]
    assert error["message"].startswith("line c: of 2000 events that were appended")
    assert "c  append, 100 events a call" in done.err, "told before it was looked at"
    assert figures(done) == []


def twice(handle: Handle) -> Handle:
    """Handles each event twice."""

    def handle_twice(event: RecordedEvent) -> None:
        handle(event)
        handle(event)

    return handle_twice


def in_swapped_pairs(handle: Handle) -> Handle:
    """Handles each second event before the first."""
    held: list[RecordedEvent] = []

    def handle_swapped(event: RecordedEvent) -> None:
        held.append(event)
        while len(held) == 2:
            handle(held.pop())
            handle(held.pop())

    return handle_swapped


@pytest.mark.parametrize("spoil", [twice, in_swapped_pairs])
def test_what_a_handler_without_effects_is_given_twice_or_out_of_order_is_found(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Handle], Handle]
) -> None:
    monkeypatch.setattr(stage, "handler_of", lambda handle, name: handler_of(spoil(handle), name))

    done = bench("--only", "e", "--json")

    assert done.code == 1
    (error,) = done.envelope["errors"]
    assert error["message"].startswith("line e: events of bench-stream were lost, doubled or")
    assert figures(done) == []


@pytest.mark.once
def test_line_m_counts_right_when_many_are_no_multiple_of_few(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scale, "MANY", 150_000)

    done = bench("--only", "m", "--events", "4000", "--json")

    assert done.code == 0, done
    assert [figure["what"] for figure in figures(done)] == [
        "a with 3,000 events behind it",
        "d with 3,000",
        "i with 3,000",
    ]


@pytest.mark.once
def test_so_it_is_of_many_writers_and_projections_at_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoiling = REORDERED.format(table="arrivals")
    monkeypatch.setattr(handlers, "ARRIVALS", handlers.ARRIVALS + ";" + spoiling)

    done = bench("--only", "n", "--json")

    assert done.code == 1
    assert [error["type"] for error in done.envelope["errors"]] == ["NotKept"]
    assert figures(done) == []


def test_its_workers_read_no_configuration_but_its_own(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for store in ("LOCAL", "SHARED"):
        monkeypatch.setenv(f"EVENTFERRY_{store}_URL", "postgresql://localhost:1/of-the-user")

    done = bench("--only", "i", "--json")

    assert done.code == 0, done
    assert [figure["what"][-3:] for figure in figures(done)] == ["p50", "p99"]


def test_a_server_may_be_given_by_keys_and_values_too(bench: Bench, server: EmbeddedServer) -> None:
    keys = make_conninfo(**conninfo_to_dict(server.url(tcp=True)))  # type: ignore[arg-type]
    assert keys.startswith("user=")

    done = bench("--only", "a", "--shared-url", server.url(), "--json", url=keys)

    assert done.code == 0, done
    assert len(figures(done)) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--only", "a,z"), "there is no line 'z'; there are a, b, c"),
        (("--only", ""), "there is no line ''"),
        (("--shared-url", "postgresql:///x"), "--shared-url goes with --local-url"),
        (("--local-url", "postgresql://localhost:1/x"), "localhost:1/x"),
        (("--local-url", "nothing"), "expected a URL like postgresql://"),
        (("--rounds", "0"), "--rounds"),
    ],
)
def test_what_can_t_be_measured_is_refused(
    bench: Bench, arguments: tuple[str, ...], said: str
) -> None:
    done = bench(*arguments, "--json", url=None)

    assert done.code in (1, 2)
    assert said in done.envelope["errors"][0]["message"]


def test_a_role_that_may_create_no_databases_is_told_how_it_may(
    bench: Bench, server: EmbeddedServer
) -> None:
    with psycopg.connect(server.url(), autocommit=True) as conn:
        conn.execute("CREATE ROLE measurer LOGIN")
    url = server.url().replace(f"//{SUPERUSER}@", "//measurer@")

    refused = bench("--only", "d", "--json", url=url)
    with psycopg.connect(server.url(), autocommit=True) as conn:
        conn.execute("ALTER ROLE measurer CREATEDB")
    allowed = bench("--only", "d,f,h", "--json", url=url)
    with psycopg.connect(server.url(), autocommit=True) as conn:
        conn.execute("DROP ROLE measurer")

    assert refused.code == 2
    assert 'ALTER ROLE "measurer" CREATEDB' in refused.envelope["errors"][0]["message"]
    assert allowed.code == 0, allowed


def test_without_pgbench_the_other_lines_go_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "find_spec", lambda _name: None)
    monkeypatch.setattr("shutil.which", lambda _name: None)

    done = bench("--only", "b,d", "--json")

    assert done.code == 1
    (error,) = done.envelope["errors"]
    assert error["message"].startswith("line b: it takes pgbench")
    assert [figure["key"] for figure in figures(done)] == ["d"]


def test_without_a_server_it_says_what_to_install(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "find_spec", lambda _name: None)

    done = bench("--json", url=None)

    assert done.code == 2
    assert 'pip install "eventferry[embedded]"' in done.envelope["errors"][0]["message"]


def test_ctrl_c_leaves_nothing_also_when_it_is_pressed_again(server: EmbeddedServer) -> None:
    folder = Path(tempfile.mkdtemp(prefix="eft-"))
    with subprocess.Popen(
        [*PROGRAM, "bench", "--only", "i", "--local-url", server.url()],
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            until(lambda: not PROC.exists() or len(running(folder, "worker")) == 2, "workers")
            process.send_signal(signal.SIGINT)
            until(lambda: process.poll() is not None or not running(folder, "worker"))
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()

    assert (process.returncode, out) == (130, ""), err
    assert "Traceback" not in err
    assert query(server.url(), BENCHED) == []
    until(lambda: not working_in(folder), "the watchers have ended")
    folder.rmdir()
