"""One process on this host for one thing: a lock that ends with the process that holds it.

A file in a folder of this user's, locked by `flock`: whatever ends the process, the system lets go
of it. The file itself stays; it is empty, and says nothing.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
import tempfile
from pathlib import Path
from typing import IO


def take(thing: str, file: Path) -> IO[bytes] | None:
    """Locks a thing that is done for a file; None: another process has it.

    Args:
        thing: For those who look at the lock's name: `users-producing`.
        file: A configuration. By its path, not by what that leads to: a new release behind the
            same link is the same thing.

    Returns:
        What holds the lock until it is closed.

    Raises:
        PermissionError: the folder for locks is somebody else's.
    """
    key = hashlib.sha256(os.fsencode(file.absolute())).hexdigest()[:12]
    lock = (_folder() / f"{thing}-{key}.lock").open("ab")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.utime(lock.fileno())  # who tidies up old files leaves it alone
        lock.close()
        return None
    return lock


def _folder() -> Path:
    """Of this user alone, whoever else writes to the folder above."""
    folder = Path(tempfile.gettempdir()) / f"eventferry-{os.geteuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        text = "locks are kept there, but it is somebody else's; remove it, or set TMPDIR"
        raise PermissionError(errno.EPERM, text, str(folder))
    return folder
