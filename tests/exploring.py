"""Every order in which the steps of `tests/model.py` can come, breadth first."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

from tests.model import (
    ENDLESS,
    LEFT,
    Actor,
    Move,
    Rules,
    Store,
    Worker,
    Writer,
    happen,
    notified,
    work,
    write,
)


class Explored(NamedTuple):
    """All that can come."""

    states: int
    """How many there are."""
    broken: dict[str, str]
    """The promises that are, each with one of the shortest ways there."""


def explore(
    rules: Rules, *, writers: int, workers: int, may_happen: Iterable[str] = ()
) -> Explored:
    """Goes through all interleavings, step by step from the start."""
    graph = _Graph(rules)
    start = graph.pack(
        Store(may_happen=frozenset(may_happen)),
        [Writer(rules.append[0])] * writers,
        [Worker(rules.look[0])] * workers,
    )
    states, known, came_from = [start], {start}, array("L", [0])
    broken: dict[str, str] = {}

    def breaks(promise: str, number: int, end: str) -> None:
        if promise not in broken:
            way = [end]
            while number:
                before = came_from[number]
                way.append(graph.name(states[before], states[number]))
                number = before
            broken[promise] = " | ".join(reversed(way))

    for number, state in enumerate(states):
        steps, happenings, breaking = graph.after(state)
        for promise, name in breaking.items():
            breaks(promise, number, name)
        if not steps and not breaking and graph.has_work(state):
            breaks(LEFT, number, "nobody can do anything")
        new = {*steps, *happenings} - known
        known |= new
        states += new
        came_from.extend([number] * len(new))

    if not broken and (lost := _lost(graph, states, known)):
        breaks(ENDLESS, next(n for n, state in enumerate(states) if state in lost), "…")
    return Explored(len(states), broken)


def _lost(graph: _Graph, states: Sequence[int], known: set[int]) -> set[int]:
    """The states from which no steps lead to one where nobody can do anything; uses up `known`.

    From each state it walks ahead to what is not lost, and nothing on such a way is. A walk may get
    into a circle, so there is another round, until a round finds nothing.
    """
    lost, before = known, 0
    while before != len(lost):
        before = len(lost)
        for state in states:
            way: dict[int, None] = {}
            ahead: int | None = state if state in lost else None
            while ahead is not None:
                way[ahead] = None
                steps, _, _ = graph.after(ahead)
                if not steps or not lost.issuperset(steps):
                    lost.difference_update(way)
                    break
                ahead = next((step for step in steps if step not in way), None)
    return lost


BITS = 20
LOW = (1 << BITS) - 1

Can = Callable[[Rules, Store, Any, tuple[bool, ...], Any], Iterator[Move]]
Names = dict[int, str]
"""The states that moves lead to, or parts of them, and what the moves are called."""
Parts = tuple[tuple[int, Names], ...]
"""Each with what is to be added."""


class _Moves(NamedTuple):
    """What a group of actors can do; its states lack the number of the other group."""

    quiet: Names
    notifying: Names
    happenings: Names
    breaking: dict[str, str]
    """Promises, and the steps that would break them: those are not taken."""


class _Graph:
    """The states as numbers, and the moves between them.

    A state is made of three numbers: a store, writers, workers. What a writer can do hangs on the
    store, on whether somebody sleeps, and on little of the other writers; what a worker can do, on
    the store, the markers, and little of the other workers. Each is worked out once, for all the
    states that have it in common. Who is who does not matter: a group is sorted.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._numbers: dict[Any, int] = {}
        self._things: list[Any] = []
        self._actor = cache(self._of_actor)
        self._group = cache(self._of_group)
        self._markers = cache(self._markers_of)
        self._sleepers = cache(self._sleepers_of)

    def pack(self, store: Store, writers: Iterable[Writer], workers: Iterable[Worker]) -> int:
        groups = self._pack_group(writers) << BITS | self._pack_group(workers)
        return self._number(store) << 2 * BITS | groups

    def has_work(self, state: int) -> bool:
        store = self._things[state >> 2 * BITS]
        return any(row > store.checkpoint for row in store.rows)

    def after(self, state: int) -> tuple[list[int], list[int], dict[str, str]]:
        """Where steps lead, where happenings lead, and the promises that steps break."""
        steps, happenings, breaking = self._moves(state)
        return (
            [rest + part for rest, names in steps for part in names],
            [rest + part for rest, names in happenings for part in names],
            breaking,
        )

    def name(self, state: int, after: int) -> str:
        """Of a move that leads from one state to the other."""
        steps, happenings, _ = self._moves(state)
        parts = ((after - rest, names) for rest, names in (*steps, *happenings))
        return next(names[part] for part, names in parts if part in names)

    def _moves(self, state: int) -> tuple[Parts, Parts, dict[str, str]]:
        store, writers, workers = state >> 2 * BITS, state >> BITS & LOW, state & LOW
        somebody_sleeps, woken = self._sleepers(workers)
        written = self._group(write, BITS, store, writers, somebody_sleeps)
        worked = self._group(work, 0, store, workers, self._markers(writers))
        rest = writers << BITS
        happenings: Parts = ()
        if self._things[store].may_happen:
            all_ = self._happenings(store, writers, workers)
            happenings = (workers, written.happenings), (rest, worked.happenings), (0, all_)
        return (
            ((workers, written.quiet), (woken, written.notifying), (rest, worked.quiet)),
            happenings,
            written.breaking or worked.breaking,
        )

    def _happenings(self, store: int, writers: int, workers: int) -> Names:
        actors = self._unpack_group(writers), self._unpack_group(workers)
        happenings = happen(self._rules, self._things[store], *actors)
        return {self.pack(*after): name for name, after in happenings}

    def _of_group(self, can: Can, shift: int, store: int, group: int, seen: Any) -> _Moves:
        moves = _Moves({}, {}, {}, {})
        actors, may_happen = self._things[group], self._things[store].may_happen
        for place, actor in enumerate(actors):
            others = actors[:place] + actors[place + 1 :]
            shown = tuple(sorted(self._things[other].shows for other in others))
            for move, to, left in self._actor(can, store, actor, shown, seen):
                after = to << 2 * BITS | self._number(tuple(sorted(others + left))) << shift
                if move.breaks:
                    moves.breaking[move.breaks] = move.name
                elif move.store.may_happen != may_happen:
                    moves.happenings[after] = move.name
                elif move.notifies:
                    moves.notifying[after] = move.name
                else:
                    moves.quiet[after] = move.name
        return moves

    def _of_actor(
        self, can: Can, store: int, actor: int, others: tuple[bool, ...], seen: Any
    ) -> list[tuple[Move, int, tuple[int, ...]]]:
        """Each move, the store after it, and what is left of the actor."""
        moves = can(self._rules, self._things[store], self._things[actor], others, seen)
        return [
            (move, self._number(move.store), (self._number(move.actor),) if move.actor else ())
            for move in moves
        ]

    def _markers_of(self, writers: int) -> tuple[int, ...]:
        return tuple(sorted({w.value for w in self._unpack_group(writers) if w.has_marker}))

    def _sleepers_of(self, workers: int) -> tuple[bool, int]:
        """Whether there are any, and the workers when they have been notified."""
        before = self._unpack_group(workers)
        after = (notified(self._rules, w) if w.is_asleep else w for w in before)
        return any(w.is_asleep for w in before), self._pack_group(after)

    def _number(self, thing: Any) -> int:
        number = self._numbers.setdefault(thing, len(self._things))
        if number == len(self._things):
            assert number <= LOW, "more bits are needed"
            self._things.append(thing)
        return number

    def _pack_group(self, actors: Iterable[Actor]) -> int:
        return self._number(tuple(sorted(self._number(actor) for actor in actors)))

    def _unpack_group(self, group: int) -> Any:
        return tuple(self._things[actor] for actor in self._things[group])
