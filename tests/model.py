"""The horizon and the wake-up as a small model, and every order in which their steps can come.

Writers append to one stream, workers run one projection, and nobody polls: what stands in tables,
locks and notifications has to be enough. A step is what nothing can come between in PostgreSQL. The
values are small and few, so that `tests/exploring.py` can go through all interleavings and see that

    no event is skipped · none is handled twice · nobody sleeps while an event is left ·
    from wherever one has come, there is a way to the end

`Rules` are the mechanism. The tests break each of them, and the model must notice.

An append: the function `eventferry.mark`, the default of `position`, PostgreSQL's commit
    read the sequence   `drawn := pg_sequence_last_value(…)`
    mark                `pg_try_advisory_xact_lock_shared(…)`: here others see the marker
    look for sleepers   `CASE WHEN pg_try_advisory_lock(…)`; notifies, if somebody holds it shared
    draw                `nextval`; a second INSERT of the transaction begins here
    become visible      the transaction leaves the list of those that run (ProcArrayEndTransaction)
    unmark              its locks go (ResourceOwnerRelease)
    notify              those who listen are told (AtCommit_Notify)

A look: `Run._run`, `source.page`, the function `eventferry.horizon`
    read the checkpoint     `_claim`; after a batch it is known
    read the head           `head := pg_sequence_last_value(…)`
    see the markers         `FROM pg_locks`
    read the head again     `IF pg_sequence_last_value(…) > head`
    read the rows           `select_from`: a page, which may be full after one event
    lock                    `lock_checkpoints`: Busy, Moved, or it is ours
    commit                  the effects, `move_checkpoints` and the commit: the lock goes. Who has
                            slept, so to say, all the while, and has read all there was, needs no
                            other look unless it has been woken

Between looks: `Worker._drive`, `Watch`
    say I sleep             `Watch.sleep`: the lock on the connection that listens
    take back that I sleep  `Watch.awake`, as `on_busy` of a run
    sleep                   `_wait(woken, None)`, until `_notified` sets `woken`
    listen again            `Watch._listening` after a loss: `wake` for everyone

What may happen, once each and at any moment, where it is asked for
    savepoint       a rollback to one that was there before the first INSERT
    second insert   in the same transaction
    draw elsewhere  another stream of the store takes a position
    death           of a worker, for good; a new one is as one that was slow to begin
    deafness        the connection that listens is lost
    crash           of the server; or of the store alone that is read, while the checkpoints are in
                    another one: then a batch that has its page goes on

What is not here
    several streams     one head, and the markers of all of them, are as one stream
    reading ahead       is done behind a full page, for which the worker has taken back that it
                        sleeps: such a look is no last one; or from where it was caught up before it
                        slept, as if it had read the checkpoint early. Its page is dropped, unless
                        it begins where the checkpoint is
    a failed projection waits for `retry`
    two-phase commit    where prepared transactions can't notify, there is the poll
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

HAPPENINGS = ("savepoint", "second insert", "draw elsewhere", "death", "deafness", "crash")

SKIPPED = "an event is skipped"
TWICE = "an event is handled twice"
LEFT = "all sleep, and an event is left"
ENDLESS = "nothing leads to the end any more"

READ_AND_MARK = "read the sequence and mark"
"""As one step, for a smaller model. An older value would only lower the horizon: a look reads less
then, and knows that something is in flight."""

ABOVE_ALL = 99


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The mechanism: the order of its steps, and what else each of them relies on."""

    append: tuple[str, ...] = (
        "read the sequence",
        "mark",
        "look for sleepers",
        "draw",
        "become visible",
        "unmark",
    )
    look: tuple[str, ...] = (
        "read the checkpoint",
        "read the head",
        "see the markers",
        "read the head again",
        "read the rows",
    )
    marks_again_after_a_savepoint: bool = True
    every_append_notifies: bool = True
    """Not only one of those that are open, which may yet roll back."""
    is_durable_when_visible: bool = True
    reads_in_a_new_snapshot: bool = True
    reads_up_to_the_horizon: bool = True
    locks_the_checkpoint: bool = True
    compares_the_locked_checkpoint: bool = True
    reads_a_moved_checkpoint_again: bool = True
    checkpoint_moves_to_an_event: bool = True
    """And not to the horizon."""
    busy_is_no_reason_to_sleep: bool = True
    in_flight_is_no_reason_to_sleep: bool = True
    looks_again_after_a_page: bool = True
    """Unless it has slept all the while, and has read all there was."""
    takes_a_last_look: bool = True
    sleeps_only_with_its_lock: bool = True
    """Whatever it has said before the look."""
    forgets_notifications_before_the_look: bool = True
    """And not after it."""
    looks_when_it_listens_again: bool = True


class Store(NamedTuple):
    """What the databases hold."""

    last: int = 0
    """Of the sequence."""
    rows: tuple[int, ...] = ()
    """The positions that are visible, in order."""
    checkpoint: int = 0
    may_happen: frozenset[str] = frozenset()

    def after(self, happening: str) -> Store:
        return self._replace(may_happen=self.may_happen - {happening})


class Writer(NamedTuple):
    """A transaction that appends."""

    step: str
    """The one that it takes next."""
    value: int = 0
    """Of the sequence, as it read it: the name of its marker."""
    has_marker: bool = False
    drawn: tuple[int, ...] = ()
    notifies: bool = False

    @property
    def shows(self) -> bool:
        """What other writers need to know, for a rule that is broken."""
        return self.notifies


class Worker(NamedTuple):
    """A runner of the projection."""

    step: str
    """The one that it takes next."""
    begin: int = 0
    """The checkpoint that the look began with."""
    upto: int = ABOVE_ALL
    """The horizon, as far as it is known."""
    in_flight: bool = False
    has_all: bool = False
    """Whether its page is all that there was, and nothing was in flight."""
    rows: tuple[int, ...] = ()
    """The page that it deals with; or its snapshot, if that is old."""
    is_asleep: bool = False
    """Whether it holds the lock that says so; it may be taking its last look."""
    was_asleep: bool = False
    """Whether it did when the look began, for a rule that is broken."""
    is_woken: bool = False
    listens: bool = True

    @property
    def shows(self) -> bool:
        """What other workers need to know: whether it has the checkpoint."""
        return self.step == "commit"


Actor = Writer | Worker
State = tuple[Store, tuple[Writer, ...], tuple[Worker, ...]]


class Move(NamedTuple):
    """A step that an actor can take now, and what there is after it."""

    name: str
    store: Store
    actor: Actor | None = None
    """The writer or the worker; None: it is gone."""
    notifies: bool = False
    breaks: str = ""
    """The promise that it would break."""


def write(
    rules: Rules, store: Store, w: Writer, others: tuple[bool, ...], somebody_sleeps: bool
) -> Iterator[Move]:
    """What a writer can do now."""
    name, steps = w.step, (*rules.append, "notify", "")
    number = steps.index(name)
    next_ = w._replace(step=steps[number + 1])
    last = store.last + 1
    match name:
        case "read the sequence":
            yield Move(name, store, next_._replace(value=store.last))
        case "read the sequence and mark":
            yield Move(name, store, next_._replace(value=store.last, has_marker=True))
        case "mark":
            yield Move(name, store, next_._replace(has_marker=True))
        case "look for sleepers":
            leaves_it = not rules.every_append_notifies and any(others)
            yield Move(name, store, next_._replace(notifies=somebody_sleeps and not leaves_it))
        case "draw":
            yield Move(name, store._replace(last=last), next_._replace(drawn=(last,)))
        case "become visible":
            skipped = SKIPPED if w.drawn[0] <= store.checkpoint else ""
            rows = tuple(sorted((*store.rows, *w.drawn)))
            visible = next_._replace(drawn=())
            yield Move(name, store._replace(rows=rows), visible, breaks=skipped)
            if "second insert" in store.may_happen:
                more = store.after("second insert")._replace(last=last)
                yield Move("insert once more", more, w._replace(drawn=(*w.drawn, last)))
        case "unmark":
            is_over = name == rules.append[-1] and not w.notifies
            unmarked = next_._replace(value=0, has_marker=False)
            yield Move(name, store, None if is_over else unmarked)
        case "notify":
            yield Move(name, store, notifies=w.notifies)
    if {"become visible", "unmark"}.issubset(steps[number:]) and number:
        yield Move("roll back", store)
        if "savepoint" in store.may_happen:
            remembers = w.has_marker and not rules.marks_again_after_a_savepoint
            undone = Writer("draw" if remembers else steps[0])
            yield Move("roll back to a savepoint", store.after("savepoint"), undone)


def work(
    rules: Rules, store: Store, w: Worker, others: tuple[bool, ...], markers: tuple[int, ...]
) -> Iterator[Move]:
    """What a worker can do now."""
    name, steps = w.step, (*rules.look, "lock", "commit", "")
    next_ = w._replace(step=steps[steps.index(name) + 1] if name in steps else "")
    match name:
        case "read the checkpoint":
            begun = next_._replace(
                begin=w.begin or store.checkpoint,
                was_asleep=w.is_asleep and not rules.sleeps_only_with_its_lock,
                is_woken=w.is_woken and not rules.forgets_notifications_before_the_look,
            )
            yield Move(name, store, begun)
        case "read the head":
            snapshot = () if rules.reads_in_a_new_snapshot else store.rows
            seen = next_._replace(upto=min(w.upto, store.last), rows=snapshot)
            yield Move(name, store, seen)
        case "see the markers":
            # one newer than the head lowers nothing, but is in flight
            seen = next_._replace(upto=min(w.upto, *markers, ABOVE_ALL), in_flight=bool(markers))
            if markers and seen.step == "read the head again":  # it could say no more than that
                seen = seen._replace(step="read the rows")
            yield Move(name, store, seen)
        case "read the head again":
            yield Move(name, store, next_._replace(in_flight=w.in_flight or store.last > w.upto))
        case "read the rows":
            yield from _read(rules, store, w)
        case "lock":
            if w.is_asleep:
                yield Move("take back that I sleep", store, w._replace(is_asleep=False))
            if rules.locks_the_checkpoint and any(others):
                busy = _again(rules, w) if rules.busy_is_no_reason_to_sleep else _idle(rules, w)
                yield Move("find it locked", store, busy)
            elif rules.compares_the_locked_checkpoint and store.checkpoint != w.begin:
                yield Move("find it moved", store, _again(rules, w))
            else:
                yield Move(name, store, next_._replace(begin=0))
        case "commit":
            end = max(w.rows[-1], w.upto)
            missed = any(store.checkpoint < row < end and row not in w.rows for row in store.rows)
            broken = TWICE if w.rows[0] <= store.checkpoint else SKIPPED if missed else ""
            on = _again(rules, w)._replace(step=steps[1], begin=end, was_asleep=w.was_asleep)
            has_all = w.has_all or not rules.looks_again_after_a_page
            if has_all and w.is_asleep and not w.is_woken:
                on = _sleep(rules, on)
            yield Move(name, store._replace(checkpoint=end), on, breaks=broken)
        case "say I sleep" if w.listens:
            looks = _again(rules, w)._replace(is_asleep=True)
            yield Move(name, store, looks if rules.takes_a_last_look else _sleep(rules, looks))
        case "say I sleep":
            yield Move("sleep, and hear nothing", store, _sleep(rules, w))
    if not w.listens:
        heard = w._replace(listens=True)
        wakes = rules.looks_when_it_listens_again
        yield Move("listen again", store, notified(rules, heard) if wakes else heard)
    elif "deafness" in store.may_happen:
        deaf = w._replace(is_asleep=False, listens=False)
        yield Move("lose the connection that listens", store.after("deafness"), deaf)
    if "death" in store.may_happen and others:
        yield Move("die", store.after("death"))


def _read(rules: Rules, store: Store, w: Worker) -> Iterator[Move]:
    rows = store.rows if rules.reads_in_a_new_snapshot else w.rows
    upto = w.upto if rules.reads_up_to_the_horizon else ABOVE_ALL
    work = tuple(row for row in rows if w.begin < row <= upto)
    for page in {work, work[:1]} - {()}:
        to_event = rules.checkpoint_moves_to_an_event or page != work
        found = w._replace(
            step="lock",
            rows=page,
            upto=0 if to_event else w.upto,
            in_flight=False,
            has_all=page == work and not w.in_flight and w.is_asleep,
        )
        yield Move("read a page", store, found)
    if not work and w.in_flight and rules.in_flight_is_no_reason_to_sleep:
        yield Move("look again, for something is in flight", store, _again(rules, w))
        if not w.is_asleep:
            yield Move("be ready for more, while something is in flight", store, _idle(rules, w))
    elif not work:
        yield Move("find nothing", store, _idle(rules, w))


def _again(rules: Rules, w: Worker) -> Worker:
    """Another look."""
    begin = 0 if rules.reads_a_moved_checkpoint_again else w.begin
    return Worker(
        rules.look[0],
        begin=begin,
        is_asleep=w.is_asleep,
        is_woken=w.is_woken,
        listens=w.listens,
    )


def _idle(rules: Rules, w: Worker) -> Worker:
    """It has nothing to do: it sleeps if it had said so before it looked, else it says so."""
    if w.is_asleep if rules.sleeps_only_with_its_lock else w.was_asleep:
        return _sleep(rules, w)
    return _again(rules, w)._replace(step="say I sleep")


def _sleep(rules: Rules, w: Worker) -> Worker:
    again = _again(rules, w)
    if w.is_woken and rules.forgets_notifications_before_the_look:
        return again
    return again._replace(step="sleep", is_woken=False)


def notified(rules: Rules, w: Worker) -> Worker:
    """Nothing comes between being woken and looking."""
    return _again(rules, w) if w.step == "sleep" else w._replace(is_woken=True)


def happen(
    rules: Rules, store: Store, writers: tuple[Writer, ...], workers: tuple[Worker, ...]
) -> Iterator[tuple[str, State]]:
    """What happens without anybody's doing."""
    if "draw elsewhere" in store.may_happen:
        drawn = store.after("draw elsewhere")._replace(last=store.last + 1)
        yield "another stream draws", (drawn, writers, workers)
    if "crash" in store.may_happen:
        rows = store.rows if rules.is_durable_when_visible else ()
        # what was drawn for nothing need not have been flushed: it will be drawn again
        back = store.after("crash")._replace(last=max(rows, default=0), rows=rows)
        unborn = tuple(w for w in writers if w == Writer(rules.append[0]))
        anew = Worker(rules.look[0], listens=False)
        deaf = (w._replace(is_asleep=False, listens=False) for w in workers)
        going_on = tuple(w if w.step in ("lock", "commit") else anew for w in deaf)
        yield "the server crashes", (back, unborn, (anew,) * len(workers))
        yield "the store that is read crashes", (back, unborn, going_on)
