"""A TCP proxy before a store, which fails as networks do: cuts, black holes, slowness."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

HOST = "127.0.0.1"
CHUNK = 65536


class Proxy:
    """Passes connections of a TCP port on to a Unix socket, whether somebody is there or not.

    It runs on a loop in a thread of its own; its methods are called from any other.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=f"proxy of {target.parent.name}")
        self._ready = threading.Event()
        self._over = asyncio.Event()
        self._passable = asyncio.Event()
        self._passable.set()
        self._delay_s = 0.0
        self._connections: set[asyncio.Task[None]] = set()
        self._lock = threading.Lock()
        """One black hole or slowness at a time."""

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def cut(self) -> int:
        """Ends all connections; how many there were."""
        return asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result()

    @contextmanager
    def black_hole(self, *, forgets: bool) -> Iterator[None]:
        """Accepts everything, and passes nothing on.

        Args:
            forgets: Whether the connections are not known any more when it is over.
        """
        with self._lock:
            self._loop.call_soon_threadsafe(self._passable.clear)
            try:
                yield
            finally:
                if forgets:
                    self.cut()
                self._loop.call_soon_threadsafe(self._passable.set)

    @contextmanager
    def slow(self, delay_s: float) -> Iterator[None]:
        """Everything that is passed on comes so much later."""
        with self._lock:
            self._delay_s = delay_s
            try:
                yield
            finally:
                self._delay_s = 0.0

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._main())
        finally:
            self._loop.close()

    async def _main(self) -> None:
        server = await asyncio.start_server(self._accepted, HOST, 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._over.wait()
        server.close()
        await self._cut()
        await asyncio.sleep(0.05)  # the loop closes the sockets of what has been cut

    async def _cut(self) -> int:
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        return len(connections)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = asyncio.create_task(self._connected(reader, writer))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)
        # here, as a task that is cut before it has begun does nothing at all
        connection.add_done_callback(lambda _: writer.transport.abort())

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A connection from its beginning to its end, which comes without a word."""
        await self._passable.wait()
        try:
            there, back = await asyncio.open_unix_connection(self.target)
        except OSError:  # nobody is there
            return
        ways = ((reader, back), (there, writer))
        pumps = [asyncio.create_task(self._pump(*way)) for way in ways]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            back.transport.abort()
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            await self._pass()
            writer.write(data)
            await writer.drain()
        await self._pass()  # nor does the end of a connection get through a black hole

    async def _pass(self) -> None:
        if self._delay_s:
            await asyncio.sleep(self._delay_s)
        await self._passable.wait()
