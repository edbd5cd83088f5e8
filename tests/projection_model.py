"""What a consuming projection promises, as simply as it can be said: one event after the other.

No batches, pages, transactions or connections. Where an event leads is decided when it comes: it
waits behind its entity, or is handled, or fails; and what a person does is one assignment. The test
in `tests/integration/test_stateful.py` does the same to the real one, and compares.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from eventferry.ended import End
from eventferry.projection import OnFailure

DEATHS = 3
"""So many processes in a row that die at an event are its fault."""
POISONED, DIED = "Poisoned", "ProcessDied"
"""The errors that there are: the handler's, and that of an event on which processes die."""


class Refused(Exception):
    """What a person has asked for can't be done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """An event."""

    n: int
    """Its place among all events, from 0."""
    stream: str
    entity: str | None
    wanted: bool
    """Whether the handler gets its type."""

    @property
    def line(self) -> object:
        """Where it waits: with its entity, or alone."""
        return self.n if self.entity is None else (self.stream, self.entity)


@dataclass(slots=True, kw_only=True)
class Model:
    """A consuming projection, and its handler."""

    on_failure: OnFailure
    attempts: int
    storm: int
    events: list[Given] = field(default_factory=list)
    poison: set[int] = field(default_factory=set)
    """The events for which the handler raises, as it is deployed now."""

    begin: int = 0
    """The first event after the last reset."""
    at: int = 0
    """The next event."""
    handled: list[int] = field(default_factory=list)
    """Since the last reset."""
    parked: dict[int, bool] = field(default_factory=dict)
    """Which events, in order; and whether they have failed, or wait behind one."""
    skipped: list[int] = field(default_factory=list)
    """As the audit tells it: also what was handled before, or after a reset."""

    state: str = "idle"
    failing: int | None = None
    error: str | None = None
    tries: int = 0
    paused: bool = False
    by_itself: bool = False
    """Whether a storm has paused it."""
    gave_up: dict[str, set[object]] = field(default_factory=dict)
    """By error: whose events have failed for good, since it was last resumed."""
    deaths: int = 0
    """Processes in a row that have ended where it is."""

    seen: Counter[str] = field(default_factory=Counter)
    """What has come about, and how often: so that a test can tell that it has seen it."""

    # ---- what happens by itself

    def look(self) -> End:
        """A run."""
        while isinstance(end := self._step(), Given):
            pass
        self.seen[f"run: {end.value}"] += 1
        return end

    def would_handle(self) -> list[int]:
        """The events that the handler would be given in the next run."""
        calls: list[int] = []
        twin = replace(self, handled=[], skipped=[], parked=dict(self.parked), seen=Counter())
        twin.gave_up = {error: set(lines) for error, lines in self.gave_up.items()}
        while isinstance(twin._step(calls.append), Given):
            pass
        return calls

    def die(self, n: int, at: int, *, is_outage: bool) -> None:
        """A run that dies while event `n` is handled, when all before `at` is committed.

        Who survives it, as an outage, says so at once.
        """
        begun = self.at
        assert begun <= at <= n, "what died is not behind, and what was committed stays"
        while self.at < at:
            assert isinstance(self._step(), Given)
        self.seen["death" if at == begun else "death after a batch"] += 1
        self.deaths = 0 if is_outage else self.deaths + 1 if at == begun else 1

    def _step(self, call: Callable[[int], None] = lambda _: None) -> Given | End:
        """Deals with the next event, which is returned; or says how the run ends."""
        if self.state == "deleted" or (self.paused and not self.by_itself):
            return End.PAUSED
        if self.state == "failed":
            return End.FAILED
        if self.at == len(self.events):
            self._recovered()
            return End.CAUGHT_UP
        event = self.events[self.at]
        has_died = self.deaths >= DEATHS or (self.deaths > 0 and self.error == DIED)
        self.deaths, self.at = 0, self.at + 1
        if not event.wanted:
            pass
        elif has_died:
            self.seen["blamed for deaths"] += 1
            return self._failed(event, DIED)
        elif event.line in {self.events[n].line for n in self.parked}:
            self.seen["parked behind another"] += 1
            self.parked[event.n] = False
        else:
            call(event.n)
            if event.n in self.poison:
                return self._failed(event, POISONED)
            self.handled.append(event.n)
        self._recovered()
        return event

    def _failed(self, event: Given, error: str) -> Given | End:
        self.tries += 1
        self.failing, self.error = event.n, error
        if self.tries < self.attempts:
            self.state, self.at = "retrying", event.n
            return End.RETRYING
        if self.on_failure == "stop":
            self.state, self.at = "failed", event.n
            return End.FAILED
        alike = self.gave_up.setdefault(error, set())
        alike.add(event.line)
        if len(alike) >= self.storm:
            self.seen["storm"] += 1
            self.state, self.paused, self.by_itself, self.at = "failed", True, True, event.n
            return End.FAILED
        self.seen[f"{self.on_failure} by policy"] += 1
        if self.on_failure == "park":
            self.parked[event.n] = True
        else:
            self.skipped.append(event.n)
        self._recovered()
        return event

    def _recovered(self) -> None:
        self.state, self.failing, self.error, self.tries = "idle", None, None, 0

    # ---- what a person does

    def retry(self) -> bool:
        if self.state not in ("failed", "retrying"):
            return False
        self.seen["retry"] += 1
        self.state, self.tries = "idle", 0
        if self.by_itself:
            self.paused = self.by_itself = False
        self.gave_up.clear()
        return True

    def pause(self) -> None:
        self.paused, self.by_itself = True, False

    def resume(self) -> bool:
        if not self.paused:
            return False
        self.seen["resume"] += 1
        if self.by_itself and self.state == "failed":
            self.state, self.tries = "idle", 0
        self.paused = self.by_itself = False
        self.gave_up.clear()
        return True

    def skip(self, n: int) -> None:
        if n in self.parked:
            self.seen["skip a parked one"] += 1
            del self.parked[n]
        elif n == self.failing:
            self.seen["skip a failing one"] += 1
            self._recovered()
            self.deaths, self.at = 0, n + 1
        else:
            raise Refused
        self.skipped.append(n)

    def unpark(
        self, *, entity: str | None = None, n: int | None = None, dies_at: int | None = None
    ) -> tuple[int, int]:
        """How many events were handled, and how many have failed again.

        Where it dies, what comes before is kept. While it is paused, its handler rests.
        """
        if self.paused:
            raise Refused
        handled = failed = 0
        for line in self._lines(entity, n):
            count = self._good(line)
            good, bad = line[:count], line[count : count + 1]
            is_dead = dies_at is not None and dies_at in good + bad
            if dies_at is not None and is_dead:
                self.seen["death while unparking"] += 1
                good, bad = [n for n in good if n < dies_at], []
            self.seen["unpark"] += len(good)
            self.seen["unpark, and fail again"] += len(bad)
            self.seen["unpark some of an entity"] += bool(good and bad)
            for each in good:
                del self.parked[each]
            self.handled += good
            self.parked |= dict.fromkeys(bad, True)
            handled, failed = handled + len(good), failed + len(bad)
            if is_dead:
                break
        return handled, failed

    def would_unpark(self) -> list[int]:
        """The parked events that the handler would be given, if all were unparked."""
        return [n for line in self._lines(None, None) for n in line[: self._good(line) + 1]]

    def _good(self, line: list[int]) -> int:
        """How many events there are up to one that fails."""
        return next((i for i, n in enumerate(line) if n in self.poison), len(line))

    def _lines(self, entity: str | None, n: int | None) -> list[list[int]]:
        lines: dict[object, list[int]] = {}
        for each in sorted(self.parked):
            lines.setdefault(self.events[each].line, []).append(each)
        if n is not None:
            if n not in self.parked:
                return []
            if lines[self.events[n].line][0] != n:
                self.seen["unpark out of order"] += 1
                raise Refused
            return [[n]]
        return [x for x in lines.values() if entity in (None, self.events[x[0]].entity)]

    def reset(self, to: int) -> None:
        self.seen["reset a deleted one"] += self.state == "deleted"
        self.seen["reset where some are parked"] += bool(self.parked)
        self._recovered()
        self.begin = self.at = to
        self.handled, self.deaths = [], 0
        self.parked = {n: failed for n, failed in self.parked.items() if n < to}

    def delete(self) -> None:
        self._recovered()
        self.state, self.paused, self.by_itself, self.parked = "deleted", False, False, {}
