"""What is given, who handles it, and what then is: a test of a handler as one expression.

    given(events) ──> when_handled_by(handler) ──> then · then_appended · then_fails

Nothing happens before the handler is named, as it may say which stream it reads. A failure of the
handler waits for `then_fails`; whatever else is asked first raises it.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

from eventferry import _json
from eventferry.event import Event, RecordedEvent

if TYPE_CHECKING:
    from eventferry.testing.service import ServiceUnderTest

Environment = Literal["local", "shared"]


@dataclass(frozen=True, slots=True)
class Given:
    """Events that are to be appended, in one transaction."""

    events: tuple[Event, ...]
    stream: str | None
    """None: the one that the handler reads."""
    environment: Environment | None
    """None: the one that the handler reads."""
    expected_version: int | None


@dataclass(frozen=True, slots=True)
class Scenario:
    """Events that are given, and not yet handled."""

    _service: ServiceUnderTest = field(repr=False)
    _given: tuple[Given, ...] = ()

    def given(
        self,
        *events: Event | Iterable[Event],
        stream: str | None = None,
        environment: Environment | None = None,
        expected_version: int | None = None,
    ) -> Scenario:
        """More events, after those that are given already.

        Args:
            events: One event or many.
            stream: None: the one that the projection reads, or `events-stream` where the handler
                is none of the configuration's.
            environment: None: the one that the projection reads, or the local one.
            expected_version: As in `EventStore.append`; it gives versions to the events.
        """
        more = Given(flat(events), stream, environment, expected_version)
        return Scenario(self._service, (*self._given, more))

    def when_handled_by(self, handler: Any) -> Outcome:
        """Appends what is given, and runs a projection with the handler until it is idle.

        The handler gets these events and no earlier ones. It is tried once, whatever the
        configuration says.

        Args:
            handler: Whatever a configuration takes: a function, a class, an object, a reference
                (`"package.module:name"`); or the name of one of the configuration's projections.

        Raises:
            ConfigurationError: events can't be given to it; or a projection's name is given, and
                there is no configuration.
            UnknownProjection: the configuration has none of this name.
            ValueError: what is given is nowhere that the projection reads.
        """
        self._service._handle(handler, self._given)
        return Outcome(self._service)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What has become of the events; each question may be followed by others."""

    _service: ServiceUnderTest = field(repr=False)

    def then(self, query: str, *rows: Any, parameters: Sequence[Any] | None = None) -> Self:
        """Requires that a query of the local store returns exactly these rows.

        Args:
            query: Their order counts only if it says ORDER BY.
            rows: Tuples; of a single column the values will do. None: there must be no row.
            parameters: The query's.

        Raises:
            AssertionError: it returns others, with the difference.
            Exception: what the handler has raised.
        """
        __tracebackhide__ = True
        with self._service.connection() as conn:
            found = conn.execute(query.encode(), parameters).fetchall()
        expected = [row if isinstance(row, tuple) else (row,) for row in rows]
        is_ordered = re.search(r"\border\s+by\b", query, re.IGNORECASE) is not None
        if found != expected if is_ordered else not is_same(found, expected):
            raise AssertionError(
                f"other rows than expected: {query}\n"
                + difference([repr(row) for row in expected], [repr(row) for row in found])
            )
        return self

    def then_appended(
        self, stream: str, *events: Event | Iterable[Event], environment: Environment = "local"
    ) -> Self:
        """Requires that the handler has appended exactly these events, in this order.

        As `ServiceUnderTest.assert_appended`.

        Raises:
            AssertionError: it has appended others, with the difference.
            Exception: what the handler has raised.
        """
        __tracebackhide__ = True
        self._service.assert_appended(stream, *events, environment=environment)
        return self

    def then_fails(self, error: type[BaseException] = Exception, match: str | None = None) -> Self:
        """Requires that the handler has failed.

        Args:
            error: With which exception, or a subclass of it.
            match: A regular expression that is found in its text.

        Raises:
            AssertionError: it has not failed, or in another way.
        """
        __tracebackhide__ = True
        found = self._service._claim_failure()
        wanted = error.__name__ if match is None else f"{error.__name__} matching {match!r}"
        if found is None:
            raise AssertionError(f"the handler should have failed with {wanted}, but has not")
        if not isinstance(found, error) or (match is not None and not re.search(match, str(found))):
            raise AssertionError(
                f"the handler should have failed with {wanted}, "
                f"but has with {type(found).__name__}: {found}"
            ) from found
        return self


def flat(events: Iterable[Event | Iterable[Event]]) -> tuple[Event, ...]:
    """The events, whether each was given by itself or in a list."""
    return tuple(event for one in events for event in ((one,) if isinstance(one, Event) else one))


def is_same(found: Sequence[Any], expected: Sequence[Any]) -> bool:
    """Whether they are the same in any order; not all of them may be hashable."""
    left = list(found)
    for one in expected:
        if one not in left:
            return False
        left.remove(one)
    return not left


def require_same(found: Sequence[RecordedEvent], expected: Sequence[Event], where: str) -> None:
    """Requires that the found events are what the expected ones say of themselves.

    Raises:
        AssertionError: they are not, with the difference.
    """
    __tracebackhide__ = True
    wanted = [_said(event) for event in expected]
    beyond = [_said(Event("_"))] * len(found)
    seen = [_seen(event, by) for event, by in zip(found, [*wanted, *beyond], strict=False)]
    if seen != wanted:
        raise AssertionError(
            f"other events than expected in {where}\n" + difference(_lines(wanted), _lines(seen))
        )


def difference(expected: Sequence[str], found: Sequence[str]) -> str:
    """What is missing (-) and what was found instead (+), among what is as expected."""
    lines = difflib.ndiff(expected, found)
    shown = [line for line in lines if not line.startswith("?")]
    return "\n".join(["(- expected, + found)", *(shown or ["  nothing"])])


def _said(event: Event) -> dict[str, Any]:
    """What is to be compared of an event: type and data; the rest where the event says it."""
    said = {"type": event.type, "data": _plain(event.data)}
    optional = {"entity_id": event.entity_id, "source": event.source}
    said |= {name: value for name, value in optional.items() if value is not None}
    if event.metadata:
        said["metadata"] = _plain(event.metadata)
    return said


def _seen(event: RecordedEvent, said: dict[str, Any]) -> dict[str, Any]:
    """The same of a recorded event; of its metadata, the keys that are asked for."""
    seen: dict[str, Any] = {name: getattr(event, name) for name in said}
    if "metadata" in said:
        kept = event.metadata
        seen["metadata"] = {key: kept[key] for key in said["metadata"] if key in kept}
    return seen


def _plain(value: Any) -> Any:
    """As it comes back from JSON."""
    return _json.loads(_json.dumps(value, what="data or metadata of an expected event"))


def _lines(events: Iterable[dict[str, Any]]) -> list[str]:
    return [json.dumps(event, ensure_ascii=False, default=str) for event in events]
