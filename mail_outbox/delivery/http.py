"""A requests session that knows whether the request has left, and when to stop waiting."""

import functools
import io
from http.client import HTTPResponse
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connectionpool import HTTPConnectionPool

from mail_outbox.delivery.trace import Phase, Trace

CONNECT = 10.0
READ = 30.0
CHUNK = 16 * 1024


def instrument(backend: Any, trace: Trace) -> None:
    """Make the backend's open session write down in the trace what happens."""
    session: requests.Session = backend.session
    adapters = [adapter for adapter in session.adapters.values() if isinstance(adapter, HTTPAdapter)]
    for adapter in adapters:
        pools = adapter.poolmanager.pool_classes_by_scheme
        adapter.poolmanager.pool_classes_by_scheme = {scheme: _tracked(pool, trace) for scheme, pool in pools.items()}
    session.request = functools.partial(_request, session, session.request, trace)  # type: ignore[method-assign]


def timeouts(configured: Any, trace: Trace) -> tuple[float, float]:
    """Return how long the backend may wait for the connection and for each read: no longer than the attempt may take."""
    connect, read = configured if isinstance(configured, tuple) else (configured, configured)
    left = max(trace.left(), 0.001)
    return min(connect or CONNECT, left), min(read or READ, left)


def _request(session: requests.Session, request: Any, trace: Trace, *args: Any, **kwargs: Any) -> requests.Response:
    trace.patience(1)  # the last look at the deadline
    trace.phase = Phase.OPEN if _is_tracked(session, kwargs.get("url", "")) else Phase.HANDED
    response: requests.Response = request(*args, **kwargs)
    trace.phase, trace.response = Phase.ANSWERED, response
    return response


def _is_tracked(session: requests.Session, url: str) -> bool:
    """Tell whether the connection itself will say when the request leaves; through a proxy it does not."""
    try:
        adapter = session.get_adapter(url)
    except requests.RequestException:
        return True  # requests will refuse the address before it connects
    proxies = requests.utils.get_environ_proxies(url) if session.trust_env else {}
    return isinstance(adapter, HTTPAdapter) and not requests.utils.select_proxy(url, {**proxies, **session.proxies})


def _tracked(pool: type[HTTPConnectionPool], trace: Trace) -> type[HTTPConnectionPool]:
    """Return a pool class whose connections tell the trace when the request begins to leave."""
    kind: Any = pool.ConnectionCls

    class Response(HTTPResponse):
        def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
            super().__init__(sock, *args, **kwargs)
            self.fp = io.BufferedReader(Reader(self.fp.detach(), sock, trace))

    class Connection(kind):  # type: ignore[misc]
        response_class = Response

        def send(self, data: Any) -> None:
            if self.sock is None:
                self.connect()
            trace.phase = Phase.POST
            parts = (
                [data[start : start + CHUNK] for start in range(0, len(data), CHUNK)]
                if isinstance(data, bytes)
                else [data]
            )
            for part in parts:
                self.sock.settimeout(trace.patience(self.timeout or READ))
                super().send(part)

    return type(pool.__name__, (pool,), {"ConnectionCls": Connection})


class Reader(io.RawIOBase):
    """Reads an answer, each time no longer than the attempt may take."""

    def __init__(self, raw: Any, sock: Any, trace: Trace) -> None:
        self._raw, self._sock, self._trace = raw, sock, trace
        self._limit = sock.gettimeout() or READ

    def readable(self) -> bool:
        """Say yes, as BufferedReader asks."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Fill the buffer with what has come."""
        self._sock.settimeout(self._trace.patience(self._limit))
        count: int | None = self._raw.readinto(buffer)
        return count

    def close(self) -> None:
        """Let go of the socket."""
        self._raw.close()
        super().close()
