"""A worker that is deployed with probes: in a container, where this is a process."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from urllib.error import URLError
from urllib.request import urlopen

from tests.deployed import Deployed
from tests.waiting import until

SERVICE = """
    service = "boilerplate"

    [consuming.mails-projection]
    stream_names = ["users-stream"]
    environment = "shared"
    handler = "handlers:handle"

    [consuming.long-projection]
    stream_names = ["users-stream"]
    environment = "local"
    handler = "handlers:handle"
    background_process = true
"""
HANDLERS = """
    def handle(event):
        pass
"""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def answers(url: str) -> bool:
    """Whether a probe would be content: 200, where another status raises."""
    try:
        with urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (URLError, ConnectionError):
        return False


def runs_until_told(
    deployed: Deployed, arguments: Sequence[str], environ: Mapping[str, str], urls: Sequence[str]
) -> None:
    """A worker answers at all these URLs, and ends well when it is told to."""
    worker = deployed.command(*arguments, **environ)

    def has_ended_or_answers() -> bool:
        return worker.poll() is not None or all(map(answers, urls))

    try:
        until(has_ended_or_answers, ", ".join(urls))
        assert worker.poll() is None, deployed.log
    finally:
        codes = deployed.stop(worker)
    assert codes == [0], deployed.log
