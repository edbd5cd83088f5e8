"""The verdict: what the writers know, against what is in the tables. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from math import ceil
from typing import Any, TypeVar
from uuid import UUID

from eventferry.demo.journal import Entry

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of the events."""

    appended: int
    """Events whose commit came back to a writer."""
    ferried: int
    """Events in the shared stream."""
    handled: int
    """Effects of the handler: rows of the consuming service."""
    lost: int
    """Events that were appended, and have no effect, or are not in the shared stream."""
    doubled: int
    """Effects beyond the first one of an event."""
    out_of_order: int
    """Events that were ferried or handled after a later one of the stream, or of their entity."""
    never_happened: int
    """Events that were ferried or handled, but no writer has committed them."""

    @property
    def is_clean(self) -> bool:
        """Whether every event was ferried and handled once, in order."""
        return (
            self.appended == self.ferried == self.handled
            and self.lost == self.doubled == self.out_of_order == self.never_happened == 0
        )

    def numbers(self) -> list[tuple[str, int]]:
        """What people are told, in order."""
        told = [
            ("appended", self.appended),
            ("ferried", self.ferried),
            ("handled", self.handled),
            ("lost", self.lost),
            ("doubled", self.doubled),
            ("out of order", self.out_of_order),
        ]
        return told + [("never happened", self.never_happened)] * (self.never_happened > 0)

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "clean": self.is_clean}


def judge(
    entries: Iterable[Entry],
    *,
    local: Sequence[UUID],
    shared: Sequence[UUID],
    handled: Sequence[UUID],
) -> Verdict:
    """Compares.

    Args:
        entries: The writers' journals; an entity's events are in one writer's order.
        local: The ids in the local stream, in its order.
        shared: The ids in the shared stream, in its order.
        handled: The ids of the effects, in the order in which they came about.
    """
    appended = list(chain.from_iterable(entry.events for entry in entries if entry.committed))
    known = {id_ for id_, _ in appended}
    disordered = chain(
        disorder(shared, _ranks(local)),
        disorder(handled, _ranks(shared)),
        *(disorder(ids, ranks) for ids, ranks in _by_entity(appended, handled)),
    )
    return Verdict(
        appended=len(appended),
        ferried=len(shared),
        handled=len(handled),
        lost=len(known - set(handled) | known - set(shared)),
        doubled=len(handled) - len(set(handled)) + len(shared) - len(set(shared)),
        out_of_order=len(set(disordered)),
        never_happened=len((set(handled) | set(shared)) - known),
    )


def disorder(ids: Iterable[Key], ranks: Mapping[Key, int]) -> list[Key]:
    """Those that come, for the first time, after one of a higher rank; unknown ones don't count."""
    late, highest, seen = [], -1, set()
    for id_ in ids:
        if id_ in seen or id_ not in ranks:
            continue
        seen.add(id_)
        if ranks[id_] < highest:
            late.append(id_)
        highest = max(highest, ranks[id_])
    return late


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that this share of the values does not exceed."""
    return sorted(values)[max(0, ceil(share * len(values)) - 1)]


def _ranks(ids: Iterable[UUID]) -> dict[UUID, int]:
    return {id_: rank for rank, id_ in enumerate(ids)}


def _by_entity(
    appended: Iterable[tuple[UUID, str | None]], handled: Iterable[UUID]
) -> Iterator[tuple[list[UUID], dict[UUID, int]]]:
    """For each entity: its events as they were handled, and their ranks in the writer's order."""
    entity_of = {id_: entity for id_, entity in appended if entity is not None}
    written: dict[str, list[UUID]] = defaultdict(list)
    for id_, entity in entity_of.items():
        written[entity].append(id_)
    effects: dict[str, list[UUID]] = defaultdict(list)
    for id_ in handled:
        if id_ in entity_of:
            effects[entity_of[id_]].append(id_)
    return ((effects[entity], _ranks(ids)) for entity, ids in written.items())
