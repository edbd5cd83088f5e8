"""A PostgreSQL for the tests of one process: embedded, waits for no disk, gone at the end."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from eventferry.embedded import EmbeddedServer
from eventferry.server_folder import ServerFolder

FAST: Mapping[str, str] = {
    "fsync": "off",  # what a test checks of crashes is PostgreSQL's, not the disk's
    "full_page_writes": "off",
}
PREFIX = "eventferry-test-"
ABANDONED_S = 24 * 3600
MEMORY = Path("/dev/shm")  # noqa: S108 - the folder in it is made by mkdtemp
MEMORY_NEEDED = 2**30
"""Databases live as long as a test: few are there at a time."""


@contextmanager
def running_server(
    port: int | None = None,
    settings: Mapping[str, str] = FAST,
    *,
    programs: Path | None = None,
) -> Iterator[EmbeddedServer]:
    """A server with nothing in it, in memory where there is enough.

    Arguments are those of `EmbeddedServer`.

    Raises:
        EmbeddedServerError: it is not installed, or does not start.
    """
    _forget_abandoned(_memory())
    # Not pytest's tmp_path: as root, PostgreSQL runs as a user who may not enter it.
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=_memory()))
    try:
        with EmbeddedServer(folder, port, settings, programs=programs) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _forget_abandoned(parent: Path | None) -> None:
    """Frees the memory that a run of tests holds which was killed, and could not clean up."""
    for folder in [] if parent is None else parent.glob(f"{PREFIX}*"):
        with suppress(OSError):  # it is another user's
            is_old = time.time() - folder.stat().st_mtime > ABANDONED_S
            if is_old and not ServerFolder(folder).is_locked():
                shutil.rmtree(folder)


def _memory() -> Path | None:
    """Where files are kept in memory; None: there is too little, or somebody has chosen."""
    if "TMPDIR" in os.environ or not MEMORY.is_dir():
        return None
    return MEMORY if shutil.disk_usage(MEMORY).free > MEMORY_NEEDED else None
