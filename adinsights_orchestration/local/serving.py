"""One ASGI application on a loopback socket, in a thread of this process.

Belongs here: binding, starting and stopping a server, and cutting a connection off in the middle of a request (what a
crashed server or a killed proxy does to its clients). Does not belong here: any application. Tests, benchmarks and the
demo all serve through this, so that what they meet is real HTTP.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from adinsights_orchestration.errors import AdinsightsError

DROP_CONNECTION = "adinsights.drop_connection"
_START_TIMEOUT_SECONDS = 30.0
_STOP_TIMEOUT_SECONDS = 15.0


class ServingError(AdinsightsError):
    """The server could not listen, or did not come up."""


class DroppableProtocol(HttpToolsProtocol):
    """HTTP/1.1 whose requests can be cut off: the scope carries a function that closes the socket at once."""

    def on_message_begin(self) -> None:
        """Puts the function that drops this connection into the new request's scope."""
        super().on_message_begin()
        self.scope["extensions"] = {DROP_CONNECTION: {"drop": self._drop}}

    def _drop(self) -> None:
        self.transport.abort()


def drop_connection(scope: Scope) -> None:
    """Closes the request's connection without a reply; raises where there is no socket (a client in this process)."""
    extension: dict[str, Callable[[], None]] | None = (scope.get("extensions") or {}).get(DROP_CONNECTION)
    if extension is None:
        raise ConnectionResetError("the server closed the connection without a reply")
    extension["drop"]()


def bind(host: str, port: int) -> socket.socket:
    """Returns a socket bound to the address; a taken port is a `ServingError` that names it."""
    # Named as TCP: asyncio switches Nagle's algorithm off only then, and with it on every reply waits 40 ms for an ACK.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise ServingError(
            f"port {port} on {host} cannot be used ({error.strerror})",
            next_step="Stop what uses it, or choose another port (ADINSIGHTS_LOCAL_SERVICE_PORT for the local stack).",
        ) from None
    listener.setblocking(False)
    return listener


def server_config(app: ASGIApp, **options: Any) -> uvicorn.Config:
    """The server's configuration: quiet, and able to drop connections."""
    defaults: dict[str, Any] = {
        "http": DroppableProtocol,
        "ws": "none",
        "lifespan": "on",
        "access_log": False,
        "log_config": None,
        "log_level": "warning",
        "server_header": False,
        "timeout_graceful_shutdown": 2,
    }
    return uvicorn.Config(app, **{**defaults, **options})


@contextmanager
def running(app: ASGIApp, host: str = "127.0.0.1", port: int = 0, **options: Any) -> Iterator[str]:
    """Serves `app` in a thread while the block runs.

    Args:
        app: The application; its lifespan runs in the server's thread.
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        **options: Overrides of uvicorn's configuration.

    Yields:
        The base URL, without a trailing slash.
    """
    listener = bind(host, port)
    server = uvicorn.Server(server_config(app, **options))
    thread = threading.Thread(target=_serve, args=(server, listener), name=f"serve:{port}", daemon=True)
    thread.start()
    try:
        _wait_until_started(server, thread)
        yield f"http://{host}:{listener.getsockname()[1]}"
    finally:
        _stop(server, thread)
        listener.close()


def _serve(server: uvicorn.Server, listener: socket.socket) -> None:
    # An application that cannot begin makes uvicorn exit the process; here that is only this thread's end.
    with suppress(SystemExit):
        server.run(sockets=[listener])


def _wait_until_started(server: uvicorn.Server, thread: threading.Thread) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_SECONDS
    while not server.started:
        if not thread.is_alive() or time.monotonic() > deadline:
            raise ServingError("the server did not start", next_step="See the application's own log lines above.")
        time.sleep(0.005)


def _stop(server: uvicorn.Server, thread: threading.Thread) -> None:
    server.should_exit = True
    thread.join(_STOP_TIMEOUT_SECONDS)
    if thread.is_alive():
        server.force_exit = True
        thread.join(_STOP_TIMEOUT_SECONDS)
