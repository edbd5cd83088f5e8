"""The map of streams and projections: who produces and consumes what, laid out for drawing.

Decides without I/O. Four columns, in the direction of the events: streams of services, the
projections that read them, streams of the shared store, the projections that read those. In a
column, each stands as near as it can to those that it is joined with.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean

from eventferry.dashboard.desk import Look, Report

WIDTH, HEIGHT = 236, 46
GAP_X, GAP_Y = 64, 14
TOP = 34
COLUMNS = ("local streams", "read by", "shared store", "read by")
LETTERS = 29
"""Of a name, so many fit."""
MANY = 80
"""A larger map shows what this service has to do with, unless all is asked for."""
SILENT_S = 180.0
"""Of whom nobody has said anything for so long, nobody knows how he is."""
FRESH_S = 30.0
"""An older report says no rate: while there is one, they come every ten seconds."""

Key = tuple[str, str, str]
"""What kind, whose, its name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """A projection, as the map knows it."""

    service: str
    name: str
    kind: str
    environment: str
    streams: tuple[str, ...]
    shared_stream: str | None
    state: str
    lag: int | None
    behind_s: float | None
    rate: float | None
    """Events a second; None: it is not known."""
    error: str | None
    is_own: bool
    is_silent: bool
    """Whether what is known is old."""

    @property
    def sources(self) -> tuple[Key, ...]:
        """The streams that it reads."""
        whose = "" if self.environment == "shared" else self.service
        return tuple((self.environment, whose, stream) for stream in self.streams)

    @property
    def target(self) -> Key | None:
        """The stream that it ferries to."""
        return ("shared", "", self.shared_stream) if self.shared_stream else None

    @property
    def key(self) -> Key:
        """Its place on the map."""
        return ("projection", self.service, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Something on the map."""

    key: Key
    x: int
    y: int
    label: str
    name: str
    service: str
    flow: Flow | None
    """None: a stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """Events go from one to the other."""

    path: str
    """As SVG draws it."""
    state: str
    is_moving: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Map:
    """What is drawn."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    columns: tuple[tuple[int, str], ...]
    width: int
    height: int
    hidden: int
    """Projections that have nothing to do with this service, and are left out."""


def flows(look: Look, service: str) -> list[Flow]:
    """All projections: this service's own as they are, others' as they were last reported."""
    own = [
        Flow(
            service=service,
            name=p.name,
            kind=p.kind,
            environment=p.environment,
            streams=tuple(s.stream for s in p.streams),
            shared_stream=p.shared_stream,
            state=p.state,
            lag=p.lag,
            behind_s=p.behind_s,
            rate=p.rate,
            error=p.failure.error if p.failure else p.waiting,
            is_own=True,
            is_silent=False,
        )
        for p in look.projections
    ]
    others = [_reported(r) for r in look.reports if r.service != service]
    return own + others


def _reported(report: Report) -> Flow:
    return Flow(
        service=report.service,
        name=report.projection,
        kind=report.kind,
        environment=report.environment,
        streams=tuple(report.streams),
        shared_stream=report.shared_stream,
        state=report.state,
        lag=report.lag,
        behind_s=report.behind_s,
        rate=report.rate if report.age_s <= FRESH_S else None,
        error=report.error,
        is_own=False,
        is_silent=report.age_s > SILENT_S,
    )


def drawn(found: Sequence[Flow], service: str, *, everything: bool = False) -> Map:
    """The map of these projections; a large one of what the service has to do with."""
    shown = list(found)
    if len(found) > MANY and not everything:
        shown = _around(found, service)
    columns = _columns(shown)
    places = {
        key: (column * (WIDTH + GAP_X), TOP + row * (HEIGHT + GAP_Y))
        for column, keys in enumerate(columns)
        for row, key in enumerate(keys)
    }
    by_key = {flow.key: flow for flow in shown}
    return Map(
        nodes=tuple(_node(key, *place, by_key.get(key)) for key, place in places.items()),
        edges=tuple(_edges(shown, places)),
        columns=tuple((n * (WIDTH + GAP_X), name) for n, name in enumerate(COLUMNS) if columns[n]),
        width=len(COLUMNS) * (WIDTH + GAP_X) - GAP_X,
        height=TOP + max(map(len, columns), default=0) * (HEIGHT + GAP_Y),
        hidden=len(found) - len(shown),
    )


def _around(found: Sequence[Flow], service: str) -> list[Flow]:
    """The service's own, and who reads or writes a stream that these read or write."""
    touched = {
        key
        for flow in found
        if flow.service == service
        for key in (*flow.sources, flow.target)
        if key is not None
    }
    return [
        flow
        for flow in found
        if flow.service == service or touched.intersection((*flow.sources, flow.target))
    ]


def _columns(found: Sequence[Flow]) -> list[list[Key]]:
    """Who stands in which column, in which order."""
    columns: list[dict[Key, None]] = [{} for _ in COLUMNS]
    joined: dict[Key, set[Key]] = {}
    for flow in sorted(found, key=_rank):
        column = 1 if flow.environment == "local" else 3
        columns[column][flow.key] = None
        for source in flow.sources:
            columns[column - 1][source] = None
            _join(joined, source, flow.key)
        if flow.target is not None:
            columns[2][flow.target] = None
            _join(joined, flow.key, flow.target)
    ordered = [list(column) for column in columns]
    for _ in range(4):
        for column in (0, 1, 2, 3, 2, 1):
            ordered[column] = _near(ordered, column, joined)
    return ordered


def _rank(flow: Flow) -> tuple[bool, str, bool, str]:
    return not flow.is_own, flow.service, flow.shared_stream is None, flow.name


def _join(joined: dict[Key, set[Key]], a: Key, b: Key) -> None:
    joined.setdefault(a, set()).add(b)
    joined.setdefault(b, set()).add(a)


def _near(columns: Sequence[list[Key]], column: int, joined: dict[Key, set[Key]]) -> list[Key]:
    """The column in the order of what its members are joined with."""
    rows = {key: row for keys in columns for row, key in enumerate(keys)}

    def wanted(key: Key) -> tuple[float, int]:
        return fmean(rows[other] for other in joined[key]), rows[key]

    return sorted(columns[column], key=wanted)


def _node(key: Key, x: int, y: int, flow: Flow | None) -> Node:
    _, service, name = key
    label = name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…"
    return Node(key=key, x=x, y=y, label=label, name=name, service=service, flow=flow)


def _edges(found: Sequence[Flow], places: dict[Key, tuple[int, int]]) -> Iterable[Edge]:
    for flow in found:
        state = "silent" if flow.is_silent else flow.state.replace(" ", "-")
        moving = bool(flow.rate) and flow.state in ("running", "idle")
        for source in flow.sources:
            path = _curve(places[source], places[flow.key])
            yield Edge(path=path, state=state, is_moving=moving)
        if flow.target is not None:
            path = _curve(places[flow.key], places[flow.target])
            yield Edge(path=path, state=state, is_moving=moving)


def _curve(start: tuple[int, int], end: tuple[int, int]) -> str:
    (x0, y0), (x1, y1) = start, end
    x0, y0, y1 = x0 + WIDTH, y0 + HEIGHT // 2, y1 + HEIGHT // 2
    half = (x0 + x1) // 2
    return f"M{x0} {y0}C{half} {y0} {half} {y1} {x1} {y1}"
