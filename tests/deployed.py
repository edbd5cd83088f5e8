"""A service as it is deployed: a folder with `projections.toml` and its handlers, and processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

from tests.waiting import PATIENCE_S

RUN_WORKER = "import sys, eventferry; eventferry.run_worker(sys.argv[1])"

WORKER_LOG = "worker.log"


class Deployed:
    """The folder of a service, and the workers that run there."""

    def __init__(self, folder: Path, configuration: str, handlers: str = "") -> None:
        self.folder = folder
        self.config = folder / "projections.toml"
        self.workers: list[subprocess.Popen[bytes]] = []
        folder.mkdir(parents=True, exist_ok=True)
        self.config.write_text(dedent(configuration))
        (folder / "handlers.py").write_text(dedent(handlers))

    def start(self, program: str = RUN_WORKER, **environ: str) -> subprocess.Popen[bytes]:
        """A process that runs the service's worker."""
        return self._start("-c", program, str(self.config), **environ)

    def command(self, *arguments: str, **environ: str) -> subprocess.Popen[bytes]:
        """A process of the command line: `command("worker", "--background")`."""
        return self._start("-m", "eventferry", *arguments, **environ)

    def run(self, *arguments: str, **environ: str) -> int:
        """Runs a command to its end; its exit code."""
        process = self.command(*arguments, **environ)
        code = process.wait(PATIENCE_S)
        self.workers.remove(process)
        return code

    def _start(self, *arguments: str, **environ: str) -> subprocess.Popen[bytes]:
        with (self.folder / WORKER_LOG).open("ab") as log:
            worker = subprocess.Popen(
                [sys.executable, "-W", "error", *arguments],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"} | environ,
            )
        self.workers.append(worker)
        return worker

    def kill(self, worker: subprocess.Popen[bytes]) -> None:
        """kill -9, wherever it is."""
        worker.kill()
        worker.wait(PATIENCE_S)
        self.workers.remove(worker)

    def stop(self, *chosen: subprocess.Popen[bytes]) -> list[int]:
        """Ends the workers, all by default, as a deployment does; their exit codes."""
        workers = list(chosen or self.workers)
        self.workers = [worker for worker in self.workers if worker not in workers]
        for worker in workers:
            worker.send_signal(signal.SIGTERM)
        try:
            return [worker.wait(PATIENCE_S) for worker in workers]
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()

    @property
    def log(self) -> str:
        return (self.folder / WORKER_LOG).read_text()


@contextmanager
def deployed(folder: Path, configuration: str, handlers: str = "") -> Iterator[Deployed]:
    """A deployed service, whose workers end with the block."""
    service = Deployed(folder, configuration, handlers)
    try:
        yield service
    finally:
        for worker in service.workers:
            worker.kill()
            worker.wait()
        # where a test has loaded the configuration in its own process
        sys.modules.pop("handlers", None)
        sys.path[:] = [entry for entry in sys.path if entry != str(folder)]
