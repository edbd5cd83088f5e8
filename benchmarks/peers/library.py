"""What is measured: eventferry and its peers, in these versions."""

from __future__ import annotations

from importlib.metadata import version
from typing import Final

from benchmarks.peers.environment import Installed

PSYCOPG: Final = "psycopg[binary]==3.3.9"
LIBRARIES: Final = (
    Installed(
        library="eventferry",
        version=version("eventferry"),
        script="eventferry_peer.py",
        in_source_tree=True,
    ),
    Installed(
        library="eventsourcing",
        version="9.5.6",
        script="eventsourcing_peer.py",
        pip=("eventsourcing[postgres]==9.5.6", PSYCOPG),
    ),
    Installed(
        library="@event-driven-io/emmett-postgresql",
        version="0.42.0",
        script="emmett_peer.mjs",
        npm=("@event-driven-io/emmett-postgresql@0.42.0",),
    ),
    Installed(
        library="eventsource-py",
        version="0.8.1",
        script="eventsource_py_peer.py",
        pip=("eventsource-py[postgresql]==0.8.1", "sqlalchemy[asyncio]==2.1.9", "asyncpg==0.32.0"),
    ),
    Installed(
        library="@eventide/message-db",
        version="1.3.1",
        script="message_db_peer.py",
        pip=(PSYCOPG,),
        npm=("@eventide/message-db@1.3.1",),
    ),
)


def chosen(names: str | None) -> list[Installed]:
    """Those whose name contains one of these, separated by commas; all, if there are none.

    Raises:
        ValueError: a name fits none.
    """
    if names is None:
        return list(LIBRARIES)
    parts = names.split(",")
    for part in parts:
        if not any(part in it.library for it in LIBRARIES):
            known = ", ".join(it.library for it in LIBRARIES)
            raise ValueError(f"{part!r} is none of the libraries: {known}")
    return [it for it in LIBRARIES if any(part in it.library for part in parts)]
