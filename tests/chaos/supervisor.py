"""Keeps the workers of a service running, as systemd or Kubernetes would."""

from __future__ import annotations

import random
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.deployed import Deployed

PAUSE_S = 0.2
"""Between two looks, and so before an ended process is started again."""


@dataclass
class Slot:
    """One process of the service, again and again."""

    service: Deployed
    command: tuple[str, ...]
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held by who does something to the process."""

    def keep(self) -> None:
        """Starts the process where there is none."""
        if self.process is not None and self.process.poll() is None:
            return
        if self.process is not None:
            self.service.workers.remove(self.process)
        self.process = self.service.command(*self.command)
        self.starts += 1

    def kill(self) -> bool:
        """SIGKILL; False: it had ended already."""
        with self.lock:
            if self.process is None or self.process.poll() is not None:
                return False
            self.process.kill()
            self.process.wait()
            return True

    def freeze(self, seconds: float) -> bool:
        """SIGSTOP, and later SIGCONT; False: it had ended already."""
        with self.lock:
            if self.process is None or self.process.poll() is not None:
                return False
            self.process.send_signal(signal.SIGSTOP)
            time.sleep(seconds)
            self.process.send_signal(signal.SIGCONT)
            return True


class Supervisor:
    """The workers of some services."""

    def __init__(self, commands: Sequence[tuple[Deployed, tuple[str, ...]]]) -> None:
        self.slots = [Slot(service, command) for service, command in commands]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._supervise, name="supervisor")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Starts nothing any more; what runs goes on."""
        self._over.set()
        if self._thread.ident:
            self._thread.join()

    def chosen(self, chance: random.Random) -> Slot:
        return chance.choice(self.slots)

    def _supervise(self) -> None:
        while not self._over.wait(PAUSE_S):
            for slot in self.slots:
                if slot.lock.acquire(blocking=False):
                    try:
                        slot.keep()
                    finally:
                        slot.lock.release()
