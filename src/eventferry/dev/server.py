"""An embedded PostgreSQL for developing: with a password, and with a shared store for all services.

Its data and its password are kept in a folder; `eventferry store` has one for the whole machine.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from psycopg.conninfo import make_conninfo

from eventferry.embedded import EmbeddedServer
from eventferry.migration import migrate
from eventferry.server_folder import ServerFolder

SHARED_STORES: Final = ("event-store", "event-store_test")
"""The shared store that services talk through while they are developed, and the one for tests."""
PORT: Final = 31578
SETTINGS: Final = {"max_connections": "500"}  # many services may share it, each with its workers


def store_folder() -> Path:
    """Where the server of `eventferry store` is, unless it is told otherwise.

    Root's is where PostgreSQL, which can't run as root, may enter.
    """
    if given := os.environ.get("XDG_DATA_HOME"):
        return Path(given) / "eventferry"
    if os.geteuid() == 0:
        return Path("/var/lib/eventferry")
    return Path.home() / ".local/share/eventferry"


def server_in(folder: Path, port: int | None) -> EmbeddedServer:
    """The server of a folder, with its password; not yet started.

    Raises:
        EmbeddedServerError: the extra `embedded` is missing, or the folder's path is too long.
    """
    folder.mkdir(parents=True, exist_ok=True)
    password = ServerFolder(folder).password()
    return EmbeddedServer(folder, port, SETTINGS, password=password)


def migrated(url: str, created: Sequence[str]) -> Sequence[str]:
    """Makes databases that were created on a server shared stores; those that were there stay."""
    for name in created:
        migrate(make_conninfo(url, dbname=name), kind="shared")
    return created
