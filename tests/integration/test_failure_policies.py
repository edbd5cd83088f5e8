"""What becomes of an event that fails: tried again, waited upon, set aside, or left out."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from eventferry import Context, End, Event, RecordedEvent
from eventferry.engine.context._async import AsyncContext
from eventferry.errors import ProjectionError
from eventferry.parking import Parked, Unparked, Which
from tests.services import Service, numbered, query, record, record_async
from tests.waiting import until

STREAM = "users-stream"
AT_ONCE = timedelta(0)
WEEK = timedelta(days=7)


@pytest.fixture
def users(make_service: Callable[[str], Service]) -> Service:
    service = make_service("users")
    service.create_stream(STREAM)
    service.create_effects()
    return service


class Failing:
    """Records, but fails at the given numbers, until they are mended."""

    def __init__(self, *poison: int, error: type[Exception] = RuntimeError) -> None:
        self.poison = set(poison)
        self.error = error
        self.tried: list[tuple[int, int]] = []
        """Numbers and attempts, as the handler was given them."""

    def handle(self, event: RecordedEvent, context: Context) -> None:
        self.tried.append((event.data["n"], context.attempt))
        record(event, context)
        if event.data["n"] in self.poison:
            raise self.error(f"poison {event.data['n']}, attempt {context.attempt}")


class FailingAsync(Failing):
    async def handle(self, event: RecordedEvent, context: AsyncContext) -> None:  # type: ignore[override]
        self.tried.append((event.data["n"], context.attempt))
        await record_async(event, context)
        if event.data["n"] in self.poison:
            raise self.error(f"poison {event.data['n']}, attempt {context.attempt}")


class FailingBatches(Failing):
    def handle_batch(self, events: list[RecordedEvent], context: Context) -> None:
        for event in events:
            self.handle(event, context)


KINDS = pytest.mark.parametrize("kind", [Failing, FailingAsync, FailingBatches])


def of_entities(*entities: str | None) -> list[Event]:
    """Events numbered from 1, of these entities."""
    return [Event("Numbered", {"n": n}, entity_id=e) for n, e in enumerate(entities, 1)]


def failures(users: Service, projection: str = "reader") -> list[tuple[Any, ...]]:
    """The attempts that have failed, in order: number, error, whether it was the last."""
    return query(
        users.local_url,
        "SELECT attempt, error, gave_up FROM eventferry.failures WHERE projection = %s ORDER BY id",
        (projection,),
    )


def parked(users: Service, projection: str = "reader") -> list[Parked]:
    return users.control(projection, lambda it: it.parked())


def parked_numbers(users: Service) -> list[int]:
    """The numbers of the parked events, in order."""
    number = {event.id: event.data["n"] for event in users.local.read(STREAM)}
    return [number[p.event_id] for p in parked(users)]


def id_of(users: Service, n: int) -> UUID:
    return next(event.id for event in users.local.read(STREAM) if event.data["n"] == n)


def audit(users: Service) -> list[tuple[Any, ...]]:
    return query(users.local_url, "SELECT who, action, reason FROM eventferry.audit ORDER BY id")


def state(users: Service, name: str = "reader") -> str:
    known = users.known(name)
    assert known is not None
    return known.state


# ---- attempts, and the pauses between them


@KINDS
def test_an_event_is_tried_as_often_as_the_policy_says(users: Service, kind: Any) -> None:
    handler = kind(3)
    users.consuming("reader", handler, STREAM, attempts=3, backoff=AT_ONCE)
    users.append(STREAM, numbered(5))
    assert users.run("reader").end is End.FAILED
    assert users.recorded() == [1, 2], "the good ones before it are kept"
    alone = [attempt for n, attempt in handler.tried if n == 3][1:]
    assert alone == [1, 2, 3], "the batch pass counts as no attempt"
    known = users.failure("reader")
    assert (known.attempts, known.failing_event_id) == (3, id_of(users, 3))
    assert failures(users) == [
        (n, f"RuntimeError: poison 3, attempt {n}", n == 3) for n in (1, 2, 3)
    ]
    handler.poison.clear()
    users.retry("reader")
    assert users.run("reader").end is End.CAUGHT_UP
    assert users.recorded() == [1, 2, 3, 4, 5]
    assert (state(users), users.known("reader").error) == ("idle", None)  # type: ignore[union-attr]


def test_an_event_that_succeeds_at_a_later_attempt_is_forgiven(users: Service) -> None:
    class Flaky(Failing):
        def handle(self, event: RecordedEvent, context: Context) -> None:
            if context.attempt == 3:
                self.poison.clear()
            super().handle(event, context)

    users.consuming("reader", Flaky(2), STREAM, attempts=5, backoff=AT_ONCE)
    users.append(STREAM, numbered(3))
    assert users.run("reader").end is End.CAUGHT_UP
    assert users.recorded() == [1, 2, 3]
    known = users.known("reader")
    assert known is not None
    assert (known.state, known.attempts, known.error, known.next_attempt_at) == (
        "idle",
        0,
        None,
        None,
    )
    assert [attempt for attempt, _, _ in failures(users)] == [1, 2], "kept, to be looked at"


def test_the_pauses_double_up_to_the_longest_and_vary(users: Service) -> None:
    users.consuming(
        "reader",
        Failing(1),
        STREAM,
        attempts=12,
        backoff=timedelta(seconds=100),
        backoff_max=timedelta(seconds=1000),
    )
    users.append(STREAM, numbered(1))
    shares = []
    for attempt in range(1, 12):
        ended = users.look("reader")
        assert ended.end is End.RETRYING
        assert ended.due_s is not None
        shares.append(ended.due_s / min(1000, 100 * 2 ** (attempt - 1)))
        users.execute("UPDATE eventferry.projections SET next_attempt_at = now() - interval '1 s'")
    assert all(0.5 <= share <= 1 for share in shares)
    assert len(set(shares)) > 1, "so that many that failed together don't come back together"
    assert users.look("reader").end is End.FAILED


def test_before_its_time_the_event_is_not_tried_and_nothing_overtakes_it(users: Service) -> None:
    handler = Failing(2)
    users.consuming("reader", handler, STREAM, attempts=2, backoff=WEEK, backoff_max=WEEK)
    users.append(STREAM, numbered(3))
    first = users.look("reader")
    tried = list(handler.tried)
    second = users.look("reader")
    assert first.end is second.end is End.RETRYING
    assert second.due_s is not None
    assert second.due_s <= WEEK.total_seconds()
    assert "poison 2" in str(second.error)
    assert handler.tried == tried
    assert users.recorded() == [1]
    handler.poison.clear()
    assert users.retry("reader") == ["reader"], "who has mended it need not wait"
    assert users.look("reader").end is End.CAUGHT_UP
    assert users.recorded() == [1, 2, 3]


def test_a_worker_tries_again_when_it_is_time(users: Service) -> None:
    handler = Failing(2)
    pause = timedelta(milliseconds=20)
    users.consuming("reader", handler, STREAM, attempts=4, backoff=pause)
    users.append(STREAM, numbered(3))
    with users.worker() as worker:
        worker.until_handled("reader", 1)
        until(lambda: state(users) == "failed")
    assert [attempt for attempt, _, _ in failures(users)] == [1, 2, 3, 4]


def test_a_ferry_is_tried_again_too(users: Service) -> None:
    taken = Event("Somebody", {"n": 0})
    users.shared.create_stream(STREAM)
    users.shared.append(STREAM, taken)
    users.producing("ferry", STREAM, attempts=3, backoff=AT_ONCE)
    users.local.append(STREAM, Event("Else", {"n": 1}, id=taken.id))
    assert users.run("ferry").end is End.FAILED
    assert [attempt for attempt, _, _ in failures(users, "ferry")] == [1, 2, 3]


def test_the_attempts_are_counted_for_each_event(users: Service) -> None:
    handler = Failing(1, 2)
    users.consuming("reader", handler, STREAM, attempts=2, backoff=AT_ONCE)
    users.append(STREAM, numbered(2))
    assert users.run("reader").end is End.FAILED
    handler.poison = {2}
    users.retry("reader")
    assert users.run("reader").end is End.FAILED
    assert [attempt for attempt, _, _ in failures(users)] == [1, 2, 1, 2]


def test_old_failures_make_place_for_new_ones(users: Service) -> None:
    users.consuming("reader", Failing(1), STREAM, attempts=200, backoff=AT_ONCE)
    users.append(STREAM, numbered(1))
    assert users.run("reader").end is End.FAILED
    kept = [attempt for attempt, _, _ in failures(users)]
    assert kept == list(range(150, 201)), "the last 50 before the last one"


# ---- parked: the entity waits, the others go on


@KINDS
def test_an_event_is_parked_and_the_later_ones_of_its_entity_behind_it(
    users: Service, kind: Any
) -> None:
    handler = kind(2)
    users.consuming("reader", handler, STREAM, on_failure="park", attempts=2, backoff=AT_ONCE)
    users.append(STREAM, of_entities("a", "b", "a", "b", "c", "b"))
    assert users.run("reader").end is End.CAUGHT_UP
    assert users.recorded() == [1, 3, 5]
    assert parked_numbers(users) == [2, 4, 6]
    assert [p.attempts for p in parked(users)] == [2, 0, 0]
    assert [p.error for p in parked(users)] == ["RuntimeError: poison 2, attempt 2", None, None]
    assert (state(users), users.known("reader").error) == ("idle", None)  # type: ignore[union-attr]
    users.append(STREAM, [Event("Numbered", {"n": 7}, entity_id="b")])
    assert users.run("reader").end is End.CAUGHT_UP
    assert parked_numbers(users) == [2, 4, 6, 7], "those that come later, too"
    assert users.recorded() == [1, 3, 5]

    handler.poison.clear()
    assert users.control("reader", lambda it: it.unpark()) == Unparked(handled=4, left=0, failed=())
    assert users.recorded() == [1, 3, 5, 2, 4, 6, 7]
    assert parked(users) == []
    users.append(STREAM, [Event("Numbered", {"n": 8}, entity_id="b")])
    users.run("reader")
    assert users.recorded() == [1, 3, 5, 2, 4, 6, 7, 8], "the entity flows again"


def test_an_event_without_an_entity_is_parked_alone(users: Service) -> None:
    users.consuming("reader", Failing(2), STREAM, on_failure="park")
    users.append(STREAM, of_entities(None, None, None, "a"))
    assert users.run("reader").end is End.CAUGHT_UP
    assert users.recorded() == [1, 3, 4]
    assert parked_numbers(users) == [2]


def test_the_same_entity_of_another_stream_is_another_one(users: Service) -> None:
    users.create_stream("orders-stream")
    users.consuming("reader", Failing(1), STREAM, "orders-stream", on_failure="park")
    users.append(STREAM, Event("Numbered", {"n": 1}, entity_id="42"))
    users.append("orders-stream", Event("Numbered", {"n": 2}, entity_id="42"))
    users.append(STREAM, Event("Numbered", {"n": 3}, entity_id="42"))
    assert users.run("reader").end is End.CAUGHT_UP
    assert users.recorded() == [2]
    assert parked_numbers(users) == [1, 3]


def test_an_event_of_a_type_that_is_not_wanted_does_not_wait_behind_a_parked_one(
    users: Service,
) -> None:
    users.consuming(
        "reader", Failing(1), STREAM, on_failure="park", event_types=frozenset({"Numbered"})
    )
    users.append(STREAM, of_entities("a"))
    users.append(STREAM, Event("Other", {"n": 2}, entity_id="a"))
    assert users.run("reader").end is End.CAUGHT_UP
    assert parked_numbers(users) == [1]


def test_one_entity_is_unparked_and_the_others_stay(users: Service) -> None:
    handler = Failing(1, 2)
    users.consuming("reader", handler, STREAM, on_failure="park")
    users.append(STREAM, of_entities("a", "b", "a", "b"))
    users.run("reader")
    assert parked_numbers(users) == [1, 2, 3, 4]
    handler.poison.clear()
    done = users.control("reader", lambda it: it.unpark(Which(entity="b")))
    assert done == Unparked(handled=2, left=0, failed=())
    assert users.recorded() == [2, 4]
    assert parked_numbers(users) == [1, 3]


def test_several_are_unparked_if_they_are_the_first_ones_of_their_entities(users: Service) -> None:
    handler = Failing(1, 2, 5)
    users.consuming("reader", handler, STREAM, on_failure="park")
    users.append(STREAM, of_entities("a", "b", "a", "b", None, "a"))
    users.run("reader")
    assert parked_numbers(users) == [1, 2, 3, 4, 5, 6]
    handler.poison.clear()

    def which(*numbers: int) -> Which:
        return Which(events=tuple(id_of(users, n) for n in numbers))

    with pytest.raises(ProjectionError, match=f"{id_of(users, 6)} waits behind {id_of(users, 3)}"):
        users.control("reader", lambda it: it.unpark(which(1, 5, 6)))
    assert users.recorded() == []
    done = users.control("reader", lambda it: it.unpark(which(5, 3, 2, 1)))
    assert done == Unparked(handled=4, left=0, failed=())
    assert users.recorded() == [1, 3, 2, 5]
    assert parked_numbers(users) == [4, 6]


def test_all_entities_that_have_failed_with_an_error_are_unparked(users: Service) -> None:
    handler = Failing(1, 2, 5)
    users.consuming("reader", handler, STREAM, on_failure="park")
    users.append(STREAM, of_entities("a", "b", "a", "c", "c", "b"))
    users.run("reader")
    handler.poison.clear()
    handler.error = KeyError
    handler.poison = {2}
    users.control("reader", lambda it: it.unpark(Which(entity="b")))  # fails in another way now
    errors = {p.event_id: p.fingerprint for p in parked(users) if p.fingerprint}
    poison, key_error = errors[id_of(users, 1)], errors[id_of(users, 2)]
    assert errors == {id_of(users, 1): poison, id_of(users, 2): key_error, id_of(users, 5): poison}

    handler.poison.clear()
    which = Which(error=poison)
    assert users.control("reader", lambda it: it.count_parked(which)) == 3
    done = users.control("reader", lambda it: it.unpark(which))
    assert done == Unparked(handled=3, left=0, failed=())
    assert users.recorded() == [4, 1, 3, 5]
    assert parked_numbers(users) == [2, 6]


def test_each_entity_is_tried_once_however_many_pages_there_are(
    users: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventferry.parking.LISTED", 2)
    handler = Failing(1, 2, 3, 4, 5)
    users.consuming("reader", handler, STREAM, on_failure="park")
    users.append(STREAM, of_entities(*"abcdeaabbcae"))
    users.run("reader")
    assert parked_numbers(users) == [*range(1, 13)]
    handler.poison = {7, 12}  # the third of a, the second of e
    handler.tried.clear()
    done = users.control("reader", lambda it: it.unpark())
    assert (done.handled, done.left, len(done.failed)) == (9, 3, 2)
    assert [n for n, _ in handler.tried] == [1, 6, 7, 2, 8, 9, 3, 10, 4, 5, 12]
    assert parked_numbers(users) == [7, 11, 12]


def test_what_fails_again_stays_parked_and_what_is_behind_it_too(users: Service) -> None:
    handler = Failing(1, 3)
    users.consuming("reader", handler, STREAM, on_failure="park")
    users.append(STREAM, of_entities("a", "b", "b", "a", "b"))
    users.run("reader")
    assert users.recorded() == [2]
    handler.poison = {3}
    done = users.control("reader", lambda it: it.unpark())
    assert (done.handled, done.left, len(done.failed)) == (2, 2, 1)
    assert "poison 3" in done.failed[0][1]
    assert users.recorded() == [2, 1, 4]
    assert parked_numbers(users) == [3, 5]
    assert [(p.attempts, p.error) for p in parked(users)] == [
        (2, "RuntimeError: poison 3, attempt 2"),
        (0, None),
    ]


def test_the_good_ones_before_it_are_kept_when_one_fails_again(users: Service) -> None:
    handler = Failing(1)
    users.consuming("reader", handler, STREAM, on_failure="park")
    users.append(STREAM, of_entities("a", "a", "a"))
    users.run("reader")
    handler.poison = {2}
    done = users.control("reader", lambda it: it.unpark(Which(entity="a")))
    assert (done.handled, done.left) == (1, 2)
    assert users.recorded() == [1]
    assert parked_numbers(users) == [2, 3]


@KINDS
@pytest.mark.parametrize("bad", [1, 2, 3, 4])
def test_of_parked_events_the_one_that_fails_is_blamed(users: Service, kind: Any, bad: int) -> None:
    """Of a `handle_batch` that fails, nobody knows at first which one it is."""
    handler = kind(1)
    users.consuming("reader", handler, STREAM, on_failure="park")
    users.append(STREAM, of_entities("a", "a", "a", "a"))
    users.run("reader")
    handler.poison = {bad, 4}
    done = users.control("reader", lambda it: it.unpark())
    assert (done.handled, done.left, len(done.failed)) == (bad - 1, 5 - bad, 1)
    assert parked_numbers(users) == list(range(bad, 5))
    first, *behind = parked(users)
    assert first.error == f"RuntimeError: poison {bad}, attempt {first.attempts}"
    assert [p.error for p in behind] == [None] * (4 - bad)


def test_one_event_is_unparked_if_it_is_its_entitys_first(users: Service) -> None:
    handler = Failing(1)
    users.consuming("reader", handler, STREAM, on_failure="park")
    users.append(STREAM, of_entities("a", "a", "a"))
    users.run("reader")
    handler.poison.clear()
    first, second = id_of(users, 1), id_of(users, 2)
    with pytest.raises(ProjectionError, match=f"waits behind {first} of the same entity"):
        users.control("reader", lambda it: it.unpark(Which(events=(second,))))
    assert users.control("reader", lambda it: it.unpark(Which(events=(first,)))).handled == 1
    assert users.recorded() == [1]
    assert parked_numbers(users) == [2, 3]


def test_a_parked_event_is_skipped_and_the_next_is_first(users: Service) -> None:
    handler = Failing(1)
    users.consuming("reader", handler, STREAM, on_failure="park")
    users.append(STREAM, of_entities("a", "a"))
    users.run("reader")
    users.control("reader", lambda it: it.skip(id_of(users, 1), "never mind"))
    assert parked_numbers(users) == [2]
    assert users.control("reader", lambda it: it.unpark(Which(entity="a"))).left == 0
    assert users.recorded() == [2]
    assert audit(users) == [("a test", "skip", "never mind"), ("a test", "unpark", None)]


def test_unparking_waits_for_the_batch_that_may_park_more_of_the_entity(users: Service) -> None:
    """An event of the entity that is being read can't slip past those that are parked."""
    handler = Failing(1)
    users.consuming("reader", handler, STREAM, on_failure="park")
    users.append(STREAM, of_entities("a"))
    users.run("reader")
    handler.poison.clear()
    with psycopg.connect(users.local_url) as runner:  # at its batch, elsewhere
        runner.execute("SELECT FROM eventferry.checkpoints FOR UPDATE")
        with psycopg.connect(users.local_url, autocommit=True) as other:
            other.execute("ALTER DATABASE " + other.info.dbname + " SET lock_timeout = '200ms'")
        try:
            with pytest.raises(psycopg.errors.LockNotAvailable):
                users.control("reader", lambda it: it.unpark())
        finally:
            users.execute("DO $$BEGIN EXECUTE 'ALTER DATABASE ' || current_database()"
                          " || ' RESET lock_timeout'; END$$")  # fmt: skip
    assert users.recorded() == []


def test_a_parked_event_that_is_gone_from_its_stream_can_be_forgotten(users: Service) -> None:
    handler = Failing(1)
    users.consuming("reader", handler, STREAM, on_failure="park")
    users.append(STREAM, of_entities("a"))
    users.run("reader")
    event = id_of(users, 1)
    users.execute('ALTER TABLE streams."users-stream" DISABLE TRIGGER USER')
    users.execute('DELETE FROM streams."users-stream"')
    with pytest.raises(ProjectionError, match=r"is not in 'users-stream' any more.*skip reader"):
        users.control("reader", lambda it: it.unpark())
    users.control("reader", lambda it: it.skip(event, "it is gone"))
    assert parked(users) == []


# ---- left out


def test_an_event_is_skipped_and_the_audit_says_so(users: Service) -> None:
    users.consuming("reader", Failing(2), STREAM, on_failure="skip", attempts=2, backoff=AT_ONCE)
    users.append(STREAM, numbered(3))
    assert users.run("reader").end is End.CAUGHT_UP
    assert users.recorded() == [1, 3]
    assert audit(users) == [("eventferry", "skip", "on_failure, after 2 attempts: RuntimeError")]
    assert [attempt for attempt, _, _ in failures(users)] == [1, 2]


# ---- many that fail alike


@pytest.mark.parametrize(("policy", "how"), [("park", "resume"), ("skip", "retry")])
def test_many_entities_that_fail_alike_pause_the_projection(
    users: Service, policy: str, how: str
) -> None:
    handler = Failing(*range(1, 100))
    users.consuming(
        "reader", handler, STREAM, on_failure=policy, storm=4, attempts=2, backoff=AT_ONCE
    )
    users.append(STREAM, of_entities(*"abcdefgh"))
    ended = users.run("reader")
    assert ended.end is End.FAILED
    assert "4 entities have failed alike, with RuntimeError" in str(ended.error)
    known = users.known("reader")
    assert known is not None
    assert known.paused_by == "eventferry"
    assert users.look("reader").end is End.FAILED, "it stays so"
    assert len(parked(users)) == (3 if policy == "park" else 0), "before anybody knew"
    assert audit(users)[-1][:2] == ("eventferry", "pause")

    handler.poison.clear()
    if how == "resume":
        assert users.control("reader", lambda it: it.resume())
    else:
        assert users.retry("reader") == ["reader"]
    assert users.run("reader").end is End.CAUGHT_UP
    assert users.recorded() == [4, 5, 6, 7, 8]
    handler.poison.add(9)
    users.append(STREAM, [Event("Numbered", {"n": 9}, entity_id="i")])
    assert users.run("reader").end is End.CAUGHT_UP, "what was before the resumption counts no more"
    handler.poison.clear()
    if policy == "park":
        users.control("reader", lambda it: it.unpark())
        assert sorted(users.recorded()) == list(range(1, 10))


def test_one_entity_that_fails_often_is_no_storm_and_nor_are_different_errors(
    users: Service,
) -> None:
    class Different(Failing):
        def handle(self, event: RecordedEvent, context: Context) -> None:
            n = event.data["n"]
            if n <= 4:
                raise [KeyError, ValueError, TypeError, OSError][n - 1](n)
            super().handle(event, context)

    users.consuming("reader", Different(5, 6, 7, 8), STREAM, on_failure="skip", storm=3)
    users.append(STREAM, of_entities(*"abcd", *"zzzz"))
    assert users.run("reader").end is End.CAUGHT_UP
    assert [row[1] for row in audit(users)] == ["skip"] * 8
