"""A requests session that knows whether the request has left, and when to stop waiting."""

import functools
import io
from collections.abc import Callable, Iterator
from http.client import HTTPResponse
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
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
    # Looked up once: the environment, where proxies may be named, is read variable by variable.
    is_tracked = functools.cache(functools.partial(_is_tracked, session))
    merge = functools.partial(_merge, session.merge_environment_settings, {})
    session.merge_environment_settings = merge  # type: ignore[method-assign]
    session.request = functools.partial(  # type: ignore[method-assign]
        _request, session, session.request, trace, is_tracked
    )


def timeouts(configured: Any, trace: Trace) -> tuple[float, float]:
    """Return how long the backend may wait for the connection and for each read: no longer than the attempt may take."""
    connect, read = configured if isinstance(configured, tuple) else (configured, configured)
    left = max(trace.left(), 0.001)
    return min(connect or CONNECT, left), min(read or READ, left)


def _request(
    session: requests.Session,
    request: Any,
    trace: Trace,
    is_tracked: Callable[[str], bool],
    *args: Any,
    **kwargs: Any,
) -> requests.Response:
    kwargs.setdefault("allow_redirects", False)  # what is posted would arrive as a GET: answered, and not sent
    _add_headers(session, kwargs, trace)
    # A connection that is tracked looks at the deadline once more when the request begins to leave.
    trace.hand_over(Phase.OPEN if is_tracked(kwargs.get("url", "")) else Phase.HANDED)
    response: requests.Response = request(*args, **kwargs)
    trace.phase, trace.response = Phase.ANSWERED, response
    return response


def _merge(merge: Callable[..., Any], known: dict[Any, Any], url: str, proxies: Any, *options: Any) -> dict[str, Any]:
    """Return what requests makes of the environment and the session, looked up once for each host."""
    if proxies:
        settings: dict[str, Any] = merge(url, proxies, *options)
        return settings
    host = (*urlsplit(url)[:2], *options)
    if host not in known:
        known[host] = merge(url, proxies, *options)
    return {**known[host], "proxies": dict(known[host]["proxies"])}


def _add_headers(session: requests.Session, request: dict[str, Any], trace: Trace) -> None:
    """Put our headers on the request; what the mailer has of its own under the same name stays."""
    if not trace.http_headers:
        return
    given = CaseInsensitiveDict(request.get("headers") or {})
    for name, value in trace.http_headers.items():
        if name in given or name in session.headers:
            trace.key = None
        else:
            given[name] = value
    request["headers"] = given


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
        is_heading, head = False, b""

        def endheaders(self, *args: Any, **kwargs: Any) -> None:
            self.is_heading, self.head = True, b""
            try:
                super().endheaders(*args, **kwargs)
            finally:
                self.is_heading = False

        def send(self, data: Any) -> None:
            if self.sock is None:
                self.connect()
            if self.is_heading and isinstance(data, bytes):
                # Its head leaves with the body: one write, one hand-over.
                self.head += data
                return
            trace.hand_over(Phase.POST)
            head, self.head = self.head, b""
            for part in _parts(data, head):
                self.sock.settimeout(trace.patience(self.timeout or READ))
                super().send(part)

        def getresponse(self, *args: Any, **kwargs: Any) -> Any:
            if self.head:
                self.send(b"")
            return super().getresponse(*args, **kwargs)

    return type(pool.__name__, (pool,), {"ConnectionCls": Connection})


def _parts(data: Any, head: bytes = b"") -> Iterator[Any]:
    if not isinstance(data, bytes):
        yield from (head, data) if head else (data,)
        return
    if head:
        yield head + data[:CHUNK]
    for start in range(CHUNK if head else 0, len(data), CHUNK):
        yield data[start : start + CHUNK]


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
        try:
            self._sock.settimeout(self._trace.patience(self._limit))
            count: int | None = self._raw.readinto(buffer)
        except TimeoutError:
            count = self._trace.last_look(self._sock, buffer)
            if count is None:
                raise
        return count

    def close(self) -> None:
        """Let go of the socket."""
        self._raw.close()
        super().close()
