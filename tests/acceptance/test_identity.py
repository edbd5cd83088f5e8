"""A store that is not what it was: noticed, said, and with a way out that loses nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from eventferry import Context, End, EventStore, RecordedEvent, StoreError, migrate
from eventferry.control import Move, To
from eventferry.embedded import EmbeddedServer
from tests import replicas
from tests.conftest import MakeDatabase, MakeService
from tests.environment import REPOSITORY
from tests.services import Service, numbered, query, record

STREAM = "users-stream"
HOWTO = (REPOSITORY / "docs/howto/when-history-was-lost.md").read_text()

Services = tuple[Service, Service]


@pytest.fixture
def services(make_service: MakeService) -> Services:
    """`users` ferries its events to the shared store, `mails` handles them."""
    users, mails = make_service("users"), make_service("mails")
    users.create_stream(STREAM)
    users.producing("ferry", STREAM)
    mails.create_effects()
    mails.consuming("reader", record, STREAM, environment="shared")
    return users, mails


def go(*services: Service) -> None:
    """Everything that there is, is ferried and handled."""
    for service in services:
        for name in service.projections:
            assert service.run(name).end is End.CAUGHT_UP


def require_mismatch(service: Service, name: str, *said: str) -> None:
    """The projection fails, handles nothing, and says all this."""
    ended = service.run(name)
    assert (ended.end, ended.handled) == (End.FAILED, 0)
    error = service.failure(name).error or ""
    assert error.startswith(f"HistoryMismatch: projection {name!r}"), error
    for words in said:
        assert words in error, (words, error)


def reset(service: Service, name: str, to: To = "last-common") -> list[Move]:
    return service.control(name, lambda it: it.reset(to))


def ferried(service: Service) -> list[int]:
    return [event.data["n"] for event in service.shared.read(STREAM)]


def identity(url: str) -> str:
    return str(query(url, "SELECT id FROM eventferry.store")[0][0])


def be_another(url: str) -> str:
    """All stores of tests are copies of one: gives this one an identity of its own."""
    (row,) = query(url, "UPDATE eventferry.store SET id = gen_random_uuid() RETURNING id")
    return str(row[0])


# ---- a store goes back: to a backup, or to what a crash without durable commits has left


@pytest.fixture
def put_on_own_server(
    services: Services, own_server: EmbeddedServer
) -> Callable[[str], EmbeddedServer]:
    """put_on_own_server("shared"): that store alone is on the server."""
    users, mails = services

    def put(name: str) -> EmbeddedServer:
        url = own_server.create_database(name)
        close(*services)
        if name == "shared":
            migrate(url, kind="shared")
            for service in services:
                service.shared_url, service.shared = url, EventStore(url)
            return own_server
        migrate(url, kind="local", service=name)
        service = users if name == "users" else mails
        service.local_url, service.local = url, EventStore(url)
        service.create_stream(STREAM) if service is users else service.create_effects()
        return own_server

    return put


def close(*services: Service) -> None:
    for service in services:
        service.close()


def back_up(server: EmbeddedServer, *services: Service) -> Path:
    close(*services)
    return replicas.back_up(server)


def put_back(server: EmbeddedServer, copy: Path, *services: Service) -> None:
    close(*services)
    replicas.put_back(server, copy)


@pytest.mark.parametrize("since", [0, 2, 3, 10])
def test_a_ferry_goes_on_from_the_last_event_that_its_store_has_not_lost(
    services: Services, put_on_own_server: Callable[[str], EmbeddedServer], since: int
) -> None:
    """Others have taken the positions of the lost ones since, or some of them, or none."""
    users, mails = services
    server = put_on_own_server("users")
    users.append(STREAM, numbered(3))
    go(users, mails)
    backup = back_up(server, *services)
    users.append(STREAM, numbered(3, first=4))
    go(users, mails)
    lost = list(users.local.read(STREAM))[-1]
    put_back(server, backup, *services)

    users.append(STREAM, numbered(since, first=100))
    there = [e for e in users.local.read(STREAM) if e.position >= lost.position]
    found = f"event {there[0].id} at position" if there else "the stream ends before it"
    command = "`eventferry projections reset ferry --to last-common`"
    require_mismatch(users, "ferry", str(lost.id), found, command)
    users.retry("ferry")
    require_mismatch(users, "ferry", command)

    (move,) = reset(users, "ferry")
    assert (move.before, move.after) == (lost.position, users.positions(STREAM)[2])
    users.append(STREAM, numbered(1, first=200))
    go(users, mails)
    expected = [1, 2, 3, 4, 5, 6, *range(100, 100 + since), 200]
    assert ferried(users) == expected, "none twice; and what one store has lost, the other keeps"
    assert mails.recorded() == expected


def test_readers_of_a_store_that_lost_events_get_them_again_from_the_last_common_one(
    services: Services, put_on_own_server: Callable[[str], EmbeddedServer]
) -> None:
    users, mails = services
    server = put_on_own_server("shared")
    users.append(STREAM, numbered(3))
    go(users, mails)
    backup = back_up(server, *services)
    users.append(STREAM, numbered(3, first=4))
    go(users, mails)
    lost = list(mails.shared.read(STREAM))[-1]
    put_back(server, backup, *services)

    command = "`eventferry projections reset reader --to last-common`"
    require_mismatch(mails, "reader", str(lost.id), "the stream ends before it", command)
    (move,) = reset(mails, "reader")
    assert move.after == mails.positions(STREAM, environment="shared")[-1]
    assert users.run("ferry").handled == 3, "its checkpoint has gone back with its events"
    users.append(STREAM, numbered(1, first=7))
    go(users, mails)
    assert ferried(users) == [1, 2, 3, 4, 5, 6, 7]
    assert mails.recorded() == [1, 2, 3, 4, 5, 6, 4, 5, 6, 7]
    again = query(mails.local_url, "SELECT count(DISTINCT event_id) FROM effects")
    assert again == [(7,)], "with the ids that they had"


def test_the_right_store_back_in_its_place_needs_a_retry_and_nothing_else(
    services: Services, put_on_own_server: Callable[[str], EmbeddedServer]
) -> None:
    users, mails = services
    server = put_on_own_server("shared")
    users.append(STREAM, numbered(3))
    go(users, mails)
    older = back_up(server, *services)
    users.append(STREAM, numbered(3, first=4))
    go(users, mails)
    newer = back_up(server, *services)
    put_back(server, older, *services)
    require_mismatch(mails, "reader", "`eventferry projections retry reader`")

    put_back(server, newer, *services)
    users.append(STREAM, numbered(1, first=7))
    mails.retry("reader")
    go(users, mails)
    assert mails.recorded() == ferried(users) == [1, 2, 3, 4, 5, 6, 7]


def test_a_reader_whose_own_store_went_back_goes_on_from_there(
    services: Services, put_on_own_server: Callable[[str], EmbeddedServer]
) -> None:
    """Its checkpoint and its effects go back together: there is nothing to complain of."""
    users, mails = services
    server = put_on_own_server("mails")
    users.append(STREAM, numbered(3))
    go(users, mails)
    backup = back_up(server, *services)
    users.append(STREAM, numbered(3, first=4))
    go(users, mails)
    put_back(server, backup, *services)
    assert mails.recorded() == [1, 2, 3]

    users.append(STREAM, numbered(1, first=7))
    go(users, mails)
    assert mails.recorded() == [1, 2, 3, 4, 5, 6, 7]


def test_the_marks_of_what_is_common_outlive_a_reset(
    services: Services, put_on_own_server: Callable[[str], EmbeddedServer]
) -> None:
    """The store goes back to a backup, and then to an older one."""
    users, _ = services
    server = put_on_own_server("users")
    backups = []
    for first in (1, 3, 5):
        users.append(STREAM, numbered(2, first=first))
        users.run("ferry")
        let_a_minute_pass(users.shared_url)
        backups.append(back_up(server, users))
    positions = users.positions(STREAM)
    for state in (1, 0):
        put_back(server, backups[state], users)
        require_mismatch(users, "ferry")
        (move,) = reset(users, "ferry")
        assert move.after == positions[2 * state + 1]
        go(users)
    assert ferried(users) == [1, 2, 3, 4, 5, 6]


def let_a_minute_pass(url: str) -> None:
    """The next batch leaves a mark."""
    with psycopg.connect(url) as conn:
        conn.execute("UPDATE eventferry.checkpoints SET marked_at = marked_at - interval '1 min'")
        conn.execute("UPDATE eventferry.marks SET at = at - interval '1 min'")


# ---- what stays as it is, back to the last common event


def lose_end(url: str, after: int) -> None:
    """As if the store had been restored: its stream ends there."""
    with psycopg.connect(url) as conn:
        conn.execute('ALTER TABLE streams."users-stream" DISABLE TRIGGER ALL')
        conn.execute('DELETE FROM streams."users-stream" WHERE position > %s', (after,))
        conn.execute('ALTER TABLE streams."users-stream" ENABLE ALWAYS TRIGGER mark')
        conn.execute('ALTER TABLE streams."users-stream" ENABLE ALWAYS TRIGGER refuse_change')


class Rebuilt:
    """A handler that can undo what it has written, fails at times, and says what is a replay."""

    def __init__(self) -> None:
        self.broken: set[int] = set()
        self.live: list[int] = []

    def handle(self, event: RecordedEvent, context: Context) -> None:
        if event.data["n"] in self.broken:
            raise RuntimeError("a bug")
        record(event, context)
        if not context.is_replay:
            self.live.append(event.data["n"])

    def reset(self, context: Context) -> None:
        context.connection.execute("DELETE FROM effects")


@pytest.fixture
def reader(services: Services) -> tuple[Service, Rebuilt]:
    """It has handled 1 to 6, but for 2 and 5, which are parked; the store has 1 to 4, 7 and 8."""
    _, mails = services
    handler = Rebuilt()
    handler.broken = {2, 5}
    mails.consuming("reader", handler, STREAM, environment="shared", on_failure="park")
    mails.shared.create_stream(STREAM)
    mails.run("reader")
    for first in (1, 5):
        mails.shared.append(STREAM, numbered(4 if first == 1 else 2, first=first))
        mails.run("reader")
    lose_end(mails.shared_url, mails.positions(STREAM, environment="shared")[3])
    mails.shared.append(STREAM, numbered(2, first=7))
    require_mismatch(mails, "reader")
    handler.broken.clear()
    handler.live.clear()
    with psycopg.connect(mails.local_url) as conn:  # of each event, as if a minute lay between
        conn.execute(
            "INSERT INTO eventferry.marks SELECT 'mails', 'reader', %s, c.store, %s, %s"
            "  FROM eventferry.checkpoints AS c ON CONFLICT DO NOTHING",
            (STREAM, *[(e.position, e.id) for e in mails.shared.read(STREAM)][3]),
        )
    return mails, handler


def test_a_projection_that_goes_on_keeps_its_effects_and_what_is_parked(
    reader: tuple[Service, Rebuilt],
) -> None:
    mails, handler = reader
    reset(mails, "reader")
    assert mails.recorded() == [1, 3, 4, 6]
    go(mails)
    assert mails.recorded() == [1, 3, 4, 6, 7, 8]
    assert handler.live == [7, 8], "new events are no replay"
    mails.control("reader", lambda it: it.unpark())
    assert mails.recorded() == [1, 3, 4, 6, 7, 8, 2], "5 is lost, and not to be handled any more"


def test_a_projection_that_has_nothing_in_common_begins_again(
    reader: tuple[Service, Rebuilt],
) -> None:
    mails, _ = reader
    lose_end(mails.shared_url, 0)
    mails.shared.append(STREAM, numbered(2, first=9))
    (move,) = reset(mails, "reader")
    assert move.after == 0
    assert mails.recorded() == []
    go(mails)
    assert mails.recorded() == [9, 10]
    assert mails.control("reader", lambda it: it.parked()) == []


def test_a_plan_changes_nothing(reader: tuple[Service, Rebuilt]) -> None:
    mails, _ = reader
    before = mails.checkpoint("reader")
    (move,) = mails.control("reader", lambda it: it.plan("last-common"))
    assert move.before == before
    assert move.after == mails.positions(STREAM, environment="shared")[3]
    assert mails.checkpoint("reader") == before
    assert mails.failure("reader").error


def test_an_event_that_came_back_to_another_place_is_not_common(services: Services) -> None:
    """Others may stand before it there, that the projection has not read."""
    _, mails = services
    mails.shared.create_stream(STREAM)
    events = numbered(3)
    for some in (events[:1], events[1:]):
        mails.shared.append(STREAM, some)
        go(mails)
    first = mails.positions(STREAM, environment="shared")[0]
    lose_end(mails.shared_url, first)
    mails.shared.append(STREAM, numbered(1, first=4))
    mails.shared.append(STREAM, [events[2], events[1]])
    require_mismatch(mails, "reader", str(events[2].id))
    (move,) = reset(mails, "reader")
    assert move.after == first
    go(mails)
    assert mails.recorded() == [1, 2, 3, 4, 3, 2]


# ---- a stream that was dropped and created again


def create_again(service: Service, url: str) -> tuple[str, str]:
    """The incarnations, before and after."""
    then = incarnation(url)
    with psycopg.connect(url) as conn:
        conn.execute('DROP TABLE streams."users-stream"')
        conn.execute("DELETE FROM eventferry.streams WHERE name = %s", (STREAM,))
    with EventStore(url) as store:
        store.create_stream(STREAM)
    return then, incarnation(url)


def incarnation(url: str) -> str:
    return str(query(url, "SELECT incarnation FROM eventferry.streams")[0][0])


@pytest.mark.parametrize("to", ["start", "last-common", "now"])
def test_a_stream_that_was_created_again_is_read_from_its_start_if_one_says_so(
    services: Services, to: To
) -> None:
    users, mails = services
    users.append(STREAM, numbered(3))
    go(users, mails)
    incarnations = create_again(users, users.local_url)
    users.append(STREAM, numbered(3, first=4))
    command = "`eventferry projections reset ferry --to start`"
    require_mismatch(users, "ferry", *incarnations, "created again", command)
    reset(users, "ferry", to)
    users.append(STREAM, numbered(1, first=7))
    go(users, mails)
    assert mails.recorded() == ferried(users) == [1, 2, 3, *([] if to == "now" else [4, 5, 6]), 7]


def test_a_ferry_that_begins_again_doubles_nothing(services: Services) -> None:
    users, mails = services
    users.append(STREAM, numbered(1_200))
    go(users, mails)
    (move,) = reset(users, "ferry", "start")
    assert (move.after, users.checkpoint("ferry")) == (0, 0)
    users.append(STREAM, numbered(1, first=1_201))
    go(users, mails)
    assert mails.recorded() == ferried(users) == list(range(1, 1_202))


# ---- a wrong URL


def test_a_reader_with_the_url_of_another_shared_store_says_which(
    services: Services, make_database: MakeDatabase
) -> None:
    users, mails = services
    users.append(STREAM, numbered(3))
    go(users, mails)
    right, mails.shared_url = mails.shared_url, make_database("shared")
    other = be_another(mails.shared_url)
    with EventStore(mails.shared_url) as store:
        store.create_stream(STREAM)
        store.append(STREAM, numbered(5, first=50))
    shown = re.sub(r"\?.*", "", mails.shared_url).partition("@/")[2]
    require_mismatch(mails, "reader", identity(right), other, f"/{shown} is store", "Is the URL")

    mails.shared_url = right
    mails.retry("reader")
    users.append(STREAM, numbered(1, first=4))
    go(users, mails)
    assert mails.recorded() == [1, 2, 3, 4]


def test_a_store_that_has_taken_the_place_of_another_is_read_if_one_says_so(
    services: Services, make_database: MakeDatabase
) -> None:
    users, mails = services
    users.append(STREAM, numbered(3))
    go(users, mails)
    url = make_database("shared")
    be_another(url)
    for service in services:
        service.shared_url, service.shared = url, EventStore(url)
    command = "`eventferry projections reset ferry --to start`"
    require_mismatch(users, "ferry", identity(url), "Is shared_url wrong?", command)
    assert query(url, "SELECT count(*) FROM eventferry.streams") == [(0,)], "nothing was ferried"
    reset(users, "ferry", "start")
    with EventStore(url) as store:
        store.create_stream(STREAM)
    go(users)
    require_mismatch(mails, "reader", identity(url))
    (move,) = reset(mails, "reader")
    assert move.after == mails.positions(STREAM, environment="shared")[2], "the same, by their ids"
    users.append(STREAM, numbered(1, first=4))
    go(users, mails)
    assert mails.recorded() == ferried(users) == [1, 2, 3, 4]


def test_a_ferry_with_a_wrong_shared_url_goes_on_when_that_is_right(
    services: Services, make_database: MakeDatabase
) -> None:
    users, mails = services
    users.append(STREAM, numbered(3))
    go(users, mails)
    right, users.shared_url = users.shared_url, make_database("shared")
    wrong = be_another(users.shared_url)
    users.append(STREAM, numbered(1, first=4))
    require_mismatch(users, "ferry", identity(right), wrong, "`eventferry projections retry ferry`")

    users.shared_url = right
    users.retry("ferry")
    go(users, mails)
    assert mails.recorded() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("key", "of", "said"),
    [
        ("local_url", "mails", "is the local store of service 'mails', not of 'users'"),
        ("local_url", None, "this database is a shared store, and can't be a local one too"),
        ("shared_url", "mails", "this database is the local store of service 'mails'"),
    ],
)
def test_a_store_of_somebody_else_is_not_run_on(
    services: Services, make_database: MakeDatabase, key: str, of: str | None, said: str
) -> None:
    users, _ = services
    setattr(users, key, make_database("local", of) if of else make_database("shared"))
    with pytest.raises(StoreError, match=said):
        users.run("ferry")


# ---- two services under one name


@pytest.mark.parametrize("name", ["ferry", "another-ferry"])
def test_a_second_service_of_the_same_name_is_refused_until_it_has_its_own(
    services: Services, make_service: MakeService, name: str
) -> None:
    """Whatever it calls its projection; and the first one goes on."""
    users, mails = services
    users.append(STREAM, numbered(3))
    go(users, mails)
    second = make_service("users")
    other = be_another(second.local_url)
    second.create_stream(STREAM)
    second.append(STREAM, numbered(3, first=11))
    second.producing(name, STREAM)
    require_mismatch(second, name, identity(users.local_url), other, "name")
    users.append(STREAM, numbered(1, first=4))
    go(users, mails)
    assert mails.recorded() == [1, 2, 3, 4]

    with psycopg.connect(second.local_url) as conn:
        conn.execute(renaming())  # type: ignore[arg-type,unused-ignore]
    second.name = "others"
    second.retry(name)
    second.append(STREAM, numbered(1, first=14))
    go(second, mails)
    assert mails.recorded() == [1, 2, 3, 4, 11, 12, 13, 14]
    sources = [event.source for event in second.shared.read(STREAM)]
    assert sources == ["users"] * 7 + ["others"], "what an event says of its source stays"


def renaming() -> str:
    """The statements of the how-to."""
    (found,) = re.findall(
        r"^```sql\n(UPDATE eventferry.store.*?)^```", HOWTO, re.DOTALL | re.MULTILINE
    )
    return str(found).replace("buyers", "others")


# ---- the marks


def test_a_mark_is_kept_each_minute_and_the_older_the_fewer(services: Services) -> None:
    users, _ = services
    for first in (1, 2):
        users.append(STREAM, numbered(1, first=first))
        go(users)
    marks = "SELECT position FROM eventferry.marks WHERE projection = 'ferry' ORDER BY position"
    assert query(users.shared_url, marks) == [(users.positions(STREAM)[0],)]
    let_a_minute_pass(users.shared_url)
    users.append(STREAM, numbered(1, first=3))
    go(users)
    assert query(users.shared_url, marks) == [(users.positions(STREAM)[n],) for n in (0, 2)]

    # as if it had run for two years, an event a minute, with one mark of each
    with psycopg.connect(users.shared_url) as conn:
        conn.execute("DELETE FROM eventferry.marks")
        conn.execute(
            """
            INSERT INTO eventferry.marks
            SELECT service, projection, stream, store, 1000000 - n, gen_random_uuid(),
                   clock_timestamp() - make_interval(mins => n, secs => 30)
              FROM eventferry.checkpoints,
                   (SELECT generate_series(0, 4000)
                     UNION
                    SELECT generate_series(4000, 1000000, 500)) AS ages (n)
             WHERE projection = 'ferry'
            """
        )
    let_a_minute_pass(users.shared_url)
    users.append(STREAM, numbered(1, first=4))
    go(users)
    ages = """
        SELECT count(*) FILTER (WHERE age < '15 min'),
               count(*) FILTER (WHERE is_older),
               count(DISTINCT date_trunc('hour', at)) FILTER (WHERE is_older),
               count(*) FILTER (WHERE age > '2 days'),
               count(DISTINCT date_trunc('day', at)) FILTER (WHERE age > '2 days'),
               max(age) < '366 days', max(age) > '364 days'
          FROM (SELECT at, clock_timestamp() - at FROM eventferry.marks) AS marks (at, age),
               LATERAL (VALUES (age BETWEEN '15 min' AND '2 days')) AS older (is_older)
        """
    ((minutes, hourly, hours, daily, days, *year),) = query(users.shared_url, ages)
    assert minutes >= 14
    assert 47 <= hours <= 49
    assert 0 <= hourly - hours <= 15
    assert 362 <= days <= 365
    assert daily == days
    assert year == [True, True]
