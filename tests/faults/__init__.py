"""Servers that fail on purpose, and write down what they really accepted; standard library only."""

import contextlib
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

Action = Any
"""What a server does at a step; each server lists its own."""

SLOW = "slow"

HANGS = 12.0
"""Seconds that nothing takes, however busy the machine: who needs them has waited for what it should have left."""


class Hangup(Exception):
    """The connection is over."""


class Script:
    """Which action comes next: the same always, one after the other and then the default, or whatever a callable says."""

    def __init__(self, action: Action) -> None:
        self._lock = threading.Lock()
        self._fixed = action
        self._queue = list(action) if is_sequence(action) else None

    def next(self, context: object) -> Action:
        """Take the next action; None stands for the default."""
        if self._queue is None:
            action = self._fixed
        else:
            with self._lock:
                action = self._queue.pop(0) if self._queue else None
        return action(context) if callable(action) else action


def is_sequence(action: Action) -> bool:
    """Tell a row of actions from one action: ("slow", 0.4) is one."""
    if isinstance(action, tuple) and action[:1] == (SLOW,):
        return False
    return isinstance(action, Sequence) and not isinstance(action, str | bytes)


class Peer:
    """One connection, seen from the server."""

    def __init__(self, sock: socket.socket, stopping: threading.Event) -> None:
        self.sock, self.stopping = sock, stopping
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = sock.makefile("rb")
        self._file = sock.fileno()  # it stays the same when TLS is put around the socket

    def replace(self, sock: socket.socket) -> None:
        """Go on over another socket, the one that TLS has put around the first."""
        self.reader.close()
        self.sock = sock
        self.reader = sock.makefile("rb")

    def write(self, data: bytes, *, seconds_per_byte: float = 0.0) -> None:
        """Send, all at once or byte by byte."""
        if not seconds_per_byte:
            self.sock.sendall(data)
            return
        for byte in data:
            self.sock.sendall(bytes([byte]))
            if self.stopping.wait(seconds_per_byte):
                raise Hangup

    def hang(self, *, reading: bool = True) -> None:
        """Say nothing any more, until the client or the server gives up."""
        if reading:
            while self.sock.recv(65536):
                pass
        else:
            self.stopping.wait()
        raise Hangup

    def reset(self) -> None:
        """Close with a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise Hangup

    @property
    def is_left(self) -> bool:
        """Tell whether the client has hung up, even if nobody has read as far as that."""
        look = select.poll()
        look.register(self._file, getattr(select, "POLLRDHUP", 0))
        return bool(look.poll(0))

    def wake(self) -> None:
        """End whatever the connection is waiting for."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close both ends of what we hold."""
        with contextlib.suppress(OSError):
            self.reader.close()
        self.sock.close()


class FaultServer:
    """Listens on a free port of the loopback, one thread per connection; a context manager."""

    def __init__(self, *, latency: float = 0.0) -> None:
        self.latency = latency
        self.connections = 0
        """How many connections there have been."""
        self.open_connections = 0
        self.max_open_connections = 0
        self.errors: list[BaseException] = []
        """Mistakes of the server's own; leaving the context raises the first."""
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._peers: set[Peer] = set()
        self._threads: set[threading.Thread] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.host, self.port = self._listener.getsockname()[:2]
        self._acceptor = threading.Thread(target=self._accept, name=f"{type(self).__name__}:{self.port}")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
        if self.errors and exc_info[0] is None:
            raise self.errors[0]

    def start(self) -> None:
        """Begin to answer."""
        self._acceptor.start()

    def stop(self) -> None:
        """Close everything and wait for all threads."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        with contextlib.suppress(OSError), socket.create_connection((self.host, self.port), timeout=5):
            pass  # wakes accept()
        self._acceptor.join()
        self._listener.close()
        with self._lock:
            peers, threads = list(self._peers), list(self._threads)
        for peer in peers:
            peer.wake()
        for thread in threads:
            thread.join()

    def serve(self, peer: Peer, number: int) -> None:
        """Talk to one client until it is over; subclasses say how."""
        raise NotImplementedError

    def pause(self, seconds: float) -> None:
        """Wait, unless the server is being stopped."""
        if seconds and self._stopping.wait(seconds):
            raise Hangup

    def _accept(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            if self._stopping.is_set():
                sock.close()
                return
            peer = Peer(sock, self._stopping)
            with self._lock:
                self.connections += 1
                self.open_connections += 1
                # The threads of those who have hung up may not have come to notice.
                left = sum(each.is_left for each in self._peers)
                self.max_open_connections = max(self.max_open_connections, self.open_connections - left)
                self._peers.add(peer)
                arguments = (peer, self.connections)
                thread = threading.Thread(target=self._handle, args=arguments, name=self._acceptor.name)
                self._threads = {each for each in self._threads if each.is_alive()} | {thread}
                thread.start()

    def _handle(self, peer: Peer, number: int) -> None:
        try:
            self.serve(peer, number)
        except (Hangup, OSError, ValueError):
            pass  # the client has gone, or we let go of it; a closed file is a ValueError
        except BaseException as error:  # noqa: BLE001 - shown when the server is left
            self.errors.append(error)
        finally:
            with self._lock:
                self._peers.discard(peer)
                self.open_connections -= 1
            peer.close()


@contextlib.contextmanager
def closed_port() -> Iterator[int]:
    """Yield a port of the loopback that refuses every connection."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can open it meanwhile
        yield taken.getsockname()[1]


@contextlib.contextmanager
def full_port() -> Iterator[int]:
    """Yield a port of the loopback that answers no connection: the queue of those that wait is full."""
    with socket.socket() as listener, contextlib.ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            client = waiting.enter_context(socket.socket())
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect(listener.getsockname())
        yield listener.getsockname()[1]


Steps = Mapping[str, Action]
Decide = Callable[[Any], Action]
