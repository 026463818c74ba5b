"""A provider that takes everything: SMTP at once, HTTP after as many milliseconds as the path says."""

import asyncio
import multiprocessing
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

FIELDS = 4
"""Of each process: how many accepted, moments of the first greeting, of the last MAIL and of the last acceptance."""
COUNT, FIRST, BEGUN, ACCEPTED = range(FIELDS)


class Conversation(asyncio.Protocol):
    """What both kinds share: a buffer, and the moments that are written down."""

    def __init__(self, notes: Any, at: int) -> None:
        self._notes, self._at = notes, at
        self._buffer = bytearray()

    def connection_made(self, transport: Any) -> None:
        """Answer each piece at once."""
        self._transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def _begin(self) -> None:
        now = time.monotonic()
        self._notes[self._at + BEGUN] = now
        self._notes[self._at + FIRST] = self._notes[self._at + FIRST] or now

    def _accept(self) -> None:
        self._notes[self._at + ACCEPTED] = time.monotonic()
        self._notes[self._at + COUNT] += 1


class Smtp(Conversation):
    """An SMTP server that says yes."""

    _in_data = False

    def connection_made(self, transport: Any) -> None:
        """Greet."""
        super().connection_made(transport)
        transport.write(b"220 sink\r\n")

    def data_received(self, data: bytes) -> None:
        """Answer what has come."""
        self._buffer += data
        end = b"\r\n.\r\n" if self._in_data else b"\r\n"
        answers = []
        while (at := self._buffer.find(end)) >= 0:
            verb = bytes(self._buffer[:4]).upper()
            del self._buffer[: at + len(end)]
            answers.append(self._answer(verb))
            end = b"\r\n.\r\n" if self._in_data else b"\r\n"
        if answers:
            self._transport.write(b"".join(answers))

    def _answer(self, verb: bytes) -> bytes:
        if self._in_data:
            self._in_data = False
            self._accept()
            return b"250 taken\r\n"
        if verb == b"DATA":
            self._in_data = True
            return b"354 go on\r\n"
        if verb == b"MAIL":
            self._begin()
        if verb == b"EHLO":
            return b"250-sink\r\n250 PIPELINING\r\n"
        return b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n"


class Http(Conversation):
    """An HTTP server that answers as Resend does."""

    def data_received(self, data: bytes) -> None:
        """Answer once the whole request is there."""
        self._buffer += data
        head, found, body = bytes(self._buffer).partition(b"\r\n\r\n")
        if not found:
            return
        lines = head.split(b"\r\n")
        lengths = [int(line[15:]) for line in lines if line.lower().startswith(b"content-length:")]
        if len(body) < sum(lengths):
            return
        self._begin()
        self._buffer.clear()
        milliseconds = int(lines[0].split(b"/")[1])
        asyncio.get_running_loop().call_later(milliseconds / 1000, self._finish)

    def _finish(self) -> None:
        self._accept()
        body = b'{"id":"00000000-0000-0000-0000-000000000000"}'
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        )


def listen(port: int) -> socket.socket:
    """Bind the port beside others who do."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", port))
    return sock


def serve(smtp: int, http: int, notes: Any, at: int) -> None:
    """Be one process of the sink, until killed."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        await loop.create_server(lambda: Smtp(notes, at), sock=listen(smtp), backlog=512)
        await loop.create_server(lambda: Http(notes, at), sock=listen(http), backlog=512)
        notes[at + COUNT] = 0
        await asyncio.Event().wait()

    asyncio.run(run())


@dataclass(frozen=True, slots=True)
class Reading:
    """What the sink has seen since it was last cleared; moments are monotonic."""

    count: int
    first_at: float
    begun_at: float
    accepted_at: float


class Sink:
    """Several processes behind one SMTP and one HTTP port."""

    def __init__(self, processes: int = 2) -> None:
        # Bound and never listening: they only keep the port numbers.
        self._places = [listen(0), listen(0)]
        self.smtp, self.http = (place.getsockname()[1] for place in self._places)
        context = multiprocessing.get_context("spawn")
        self._notes = context.Array("d", [-1.0] * FIELDS * processes, lock=False)
        self._processes = [
            context.Process(target=serve, args=(self.smtp, self.http, self._notes, at), daemon=True)
            for at in range(0, FIELDS * processes, FIELDS)
        ]

    def __enter__(self) -> Self:
        for process in self._processes:
            process.start()
        while any(self._notes[at] < 0 for at in range(0, len(self._notes), FIELDS)):
            if not all(process.is_alive() for process in self._processes):
                raise RuntimeError("A process of the sink has ended.")
            time.sleep(0.01)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.kill()
            process.join()
        for place in self._places:
            with suppress(OSError):
                place.close()

    def clear(self) -> None:
        """Begin to count anew."""
        self._notes[:] = [0.0] * len(self._notes)

    def read(self) -> Reading:
        """Return what has come since."""
        columns = [list(self._notes[field::FIELDS]) for field in range(FIELDS)]
        first = min((moment for moment in columns[FIRST] if moment), default=0.0)
        return Reading(int(sum(columns[COUNT])), first, max(columns[BEGUN]), max(columns[ACCEPTED]))
