"""`eventferry bench`: how fast it is here, each figure beside its limit.

`figure` measures two things in turn, `stage` has the databases, `bare` the limits: what psycopg,
COPY and pgbench do without us. Each other module measures some of the figures, and each line looks
at what has come of it, as far as it can tell: a line that finds something lost, doubled or
reordered has no figure. Which looks at what is said in docs/explanation/performance.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from eventferry.bench import appending, catching_up, dashboard, hopping, scale, worker, writing
from eventferry.bench.figure import Figure
from eventferry.bench.stage import Stage

FIGURES: Mapping[str, Callable[[Stage], Iterator[Figure]]] = MappingProxyType(
    {
        "a": appending.one_by_one,
        "b": writing.many_connections,
        "c": appending.in_batches,
        "d": catching_up.reading,
        "e": catching_up.consuming,
        "f": catching_up.inserting,
        "g": catching_up.in_bulk,
        "h": catching_up.ferrying,
        "i": hopping.hops,
        "j": worker.idle,
        "k": worker.many_streams,
        "l": worker.memory,
        "n": writing.all_at_once,
        "o": dashboard.pages,
        "p": dashboard.watching,
    }
)
"""What is measured, by its line in the table."""
ON_REQUEST: Mapping[str, Callable[[Stage], Iterator[Figure]]] = MappingProxyType(
    {"m": scale.figures}
)
"""What takes long."""
