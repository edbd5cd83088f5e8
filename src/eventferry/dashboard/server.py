"""Serving the dashboard until a signal comes."""

from __future__ import annotations

import socket
from types import FrameType

import uvicorn

from eventferry.config import Config
from eventferry.dashboard.app import application
from eventferry.dashboard.desk import Desk
from eventferry.dashboard.settings import Settings

END_S = 3
"""Answers that are not complete by then, when it is to end, are cut off."""


class _Server(uvicorn.Server):
    """Lets those go that follow live, who would not go by themselves."""

    def __init__(self, config: uvicorn.Config, desk: Desk) -> None:
        super().__init__(config)
        self._desk = desk

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._desk.is_closing.set()
        super().handle_exit(sig, frame)
        self._captured_signals.clear()  # ends with code 0, as a worker does


async def serve(config: Config, settings: Settings, listener: socket.socket, *, owner: str) -> None:
    """Serves at the socket, which listens already; Ctrl-C or SIGTERM ends it.

    Args:
        config: The service's.
        settings: How; they are `checked`.
        listener: Where.
        owner: Who has started it.
    """
    desk = Desk.of(config, settings)
    options = uvicorn.Config(
        application(desk, owner),
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_graceful_shutdown=END_S,
    )
    await _Server(options, desk).serve([listener])
