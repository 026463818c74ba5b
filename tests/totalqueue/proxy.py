"""Between a client and PostgreSQL: loses the answer to a COMMIT, or the COMMIT itself, when told to."""

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from typing import Any, Self

COMMIT = b"COMMIT\x00"
QUERIES = (b"Q", b"P")
"""The messages that may carry it: a simple query, and the parse step of a prepared one."""


class Connection:
    """One client and its server."""

    def __init__(self, proxy: "Proxy", client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self._is_losing = False

    async def forward_client(self, reader: asyncio.StreamReader) -> None:
        """Pass on what the client says, message by message."""
        await self._forward_startup(reader)
        while True:
            head = await reader.readexactly(5)
            body = await reader.readexactly(int.from_bytes(head[1:], "big") - 4)
            if head[:1] in QUERIES and COMMIT in body and self._proxy.take("commits"):
                return
            if head[:1] in QUERIES and COMMIT in body and self._proxy.take("answers"):
                self._is_losing = True
            self._server.write(head + body)
            await self._server.drain()

    async def _forward_startup(self, reader: asyncio.StreamReader) -> None:
        """Pass on the first message, the only one without a type."""
        head = await reader.readexactly(4)
        self._server.write(head + await reader.readexactly(int.from_bytes(head, "big") - 4))
        await self._server.drain()

    async def forward_server(self, reader: asyncio.StreamReader) -> None:
        """Pass on what the server says, unless it is the answer that is to be lost: then it has been done."""
        while data := await reader.read(65536):
            if self._is_losing:
                return
            self._client.write(data)
            await self._client.drain()

    def close(self) -> None:
        """Hang up on both."""
        for writer in (self._client, self._server):
            with contextlib.suppress(Exception):
                writer.close()


class Proxy:
    """Listens on a free port of the loopback, in a thread of its own; a context manager."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._armed = {"answers": 0, "commits": 0}
        self._is_cut = False
        self._lock = threading.Lock()
        self.lost = 0
        """How many COMMITs have lost their answer, or were lost themselves."""
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._listener = self._do(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def lose_answers(self, count: int) -> None:
        """Let the next so many COMMITs be done and never be answered; 0 disarms."""
        self._arm("answers", count)

    def lose_commits(self, count: int) -> None:
        """Let the next so many COMMITs never arrive; 0 disarms."""
        self._arm("commits", count)

    def cut(self) -> None:
        """Hang up on everybody, and let nobody through until mended."""
        self._is_cut = True
        self._loop.call_soon_threadsafe(self._hang_up)

    def mend(self) -> None:
        """Let everybody through again, and lose nothing more."""
        self._is_cut = False
        self.lose_answers(0)
        self.lose_commits(0)

    def _hang_up(self) -> None:
        for task in list(self._tasks):
            task.cancel()

    def take(self, what: str) -> bool:
        """Tell whether this COMMIT is one to be lost, and count it."""
        with self._lock:
            if not self._armed[what]:
                return False
            self._armed[what] -= 1
            self.lost += 1
            return True

    def _arm(self, what: str, count: int) -> None:
        with self._lock:
            self._armed[what] = count

    def _do(self, what: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(30)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                if not self._is_cut:
                    await self._connect(reader, writer)
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(*self._target)
        connection = Connection(self, writer, server_writer)
        both = [
            asyncio.create_task(connection.forward_client(reader)),
            asyncio.create_task(connection.forward_server(server_reader)),
        ]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            connection.close()
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)

    async def _stop(self) -> None:
        self._listener.close()
        self._hang_up()
        await asyncio.gather(*self._tasks, return_exceptions=True)
