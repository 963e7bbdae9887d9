"""The wire between the archive and a store: it writes down what passes, and breaks it when a test says so.

It stands before a real S3 server, or before a stand-in of one, and hands requests on byte for byte, `Host` included, so
that their signatures stay good.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from werkzeug.datastructures import Headers
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from tests.conftest import free_port

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

_HOP = {"connection", "keep-alive", "transfer-encoding", "server", "date"}
_BACKLOG = 64


@dataclass(frozen=True)
class Seen:
    """A request that came."""

    method: str
    path: str
    query: str
    headers: Headers
    body: bytes


Answer = Callable[[Seen], Response]
Fault = Callable[[Seen, Answer], Response]


@dataclass
class Wire:
    """What came, and what is broken.

    Attributes:
        answer: What stands behind it.
        url: Where it is reached.
        seen: Every request, in the order in which they came.
        fault: Given each request and what would answer it; None: nothing is broken.
    """

    answer: Answer
    url: str = ""
    seen: list[Seen] = field(default_factory=list)
    fault: Fault | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        path = str(environ["RAW_URI"]).split("?", 1)[0]
        one = Seen(request.method, path, request.query_string.decode(), Headers(request.headers), request.get_data())
        with self._lock:
            self.seen.append(one)
        fault = self.fault
        response = self.answer(one) if fault is None else fault(one, self.answer)
        return response(environ, start_response)

    def of(self, method: str, part: str = "") -> list[Seen]:
        """The requests of a method whose path has this in it."""
        return [one for one in self.seen if one.method == method and part in one.path]


def forwarding(url: str) -> Answer:
    """Hands requests on to a server."""
    parts = urlsplit(url)
    local = threading.local()

    def answer(seen: Seen) -> Response:
        target = seen.path + (f"?{seen.query}" if seen.query else "")
        for attempt in (1, 2):
            connection = getattr(local, "connection", None) or http.client.HTTPConnection(
                str(parts.hostname), parts.port, timeout=60
            )
            local.connection = connection
            try:
                connection.putrequest(seen.method, target, skip_host=True, skip_accept_encoding=True)
                for name, value in seen.headers:
                    if name.lower() not in _HOP:
                        connection.putheader(name, value)
                connection.endheaders(seen.body)
                got = connection.getresponse()
                body = got.read()
            except (http.client.HTTPException, OSError):
                local.connection = None
                if attempt == 2:
                    raise
                continue
            headers = Headers([(name, value) for name, value in got.getheaders() if name.lower() not in _HOP])
            response = Response(body, status=got.status, headers=headers)
            response.automatically_set_content_length = seen.method != "HEAD"
            return response
        raise AssertionError

    return answer


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Says nothing."""

    def log(self, *_: object) -> None:
        """Says nothing: a connection that is cut is what a test wants."""


@contextmanager
def serving(wire: Wire) -> Iterator[Wire]:
    """Serves it on a port of its own for the body's time."""
    server = make_server("127.0.0.1", 0, wire, threaded=True, request_handler=_Quiet)
    server.socket.listen(_BACKLOG)
    wire.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield wire
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


# ------------------------------------------------------------------------------------------------------------- faults


def error(status: int, code: str) -> Response:
    """An error as S3 and GCS tell it."""
    text = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{code}</Code><Message>no</Message></Error>"
    return Response(text, status=status, content_type="application/xml")


def writes_answer(status: int, code: str, *, after: int = 0, times: int | None = None) -> Fault:
    """Writes are refused once so many were let through; so often, or for ever."""
    return answering(lambda seen: seen.method in ("PUT", "POST", "DELETE"), status, code, after=after, times=times)


def answering(
    which: Callable[[Seen], bool], status: int, code: str, *, after: int = 0, times: int | None = None
) -> Fault:
    """Some requests are answered by an error, and never reach the store."""
    counted, lock = [0], threading.Lock()

    def fault(seen: Seen, answer: Answer) -> Response:
        if which(seen):
            with lock:
                counted[0] += 1
                number = counted[0]
            if number > after and (times is None or number <= after + times):
                return error(status, code)
        return answer(seen)

    return fault


def answers_are_lost(which: Callable[[Seen], bool], times: int) -> Fault:
    """The store does as it is told, and nobody hears of it: 503 is what comes back."""
    counted, lock = [0], threading.Lock()

    def fault(seen: Seen, answer: Answer) -> Response:
        response = answer(seen)
        if which(seen):
            with lock:
                counted[0] += 1
                if counted[0] <= times:
                    return error(503, "SlowDown")
        return response

    return fault


def slow(seconds: float) -> Fault:
    """Every answer takes its time."""

    def fault(seen: Seen, answer: Answer) -> Response:
        time.sleep(seconds)
        return answer(seen)

    return fault


def cut_short(part: str) -> Fault:
    """The first reading of each object breaks off in its middle, and one that goes on from there does not."""
    begun: set[str] = set()
    lock = threading.Lock()

    def fault(seen: Seen, answer: Answer) -> Response:
        response = answer(seen)
        with lock:
            first = seen.path not in begun
            if seen.method == "GET" and part in seen.path and first and response.status_code == 200:
                begun.add(seen.path)
            else:
                return response
        body = response.get_data()

        def half() -> Iterator[bytes]:
            yield body[: len(body) // 2]
            raise ConnectionAbortedError("cut")

        headers = Headers(response.headers)
        return Response(half(), status=200, headers=headers)

    return fault


def nobody_there() -> str:
    """An address at which connections are refused."""
    return f"http://127.0.0.1:{free_port()}"
