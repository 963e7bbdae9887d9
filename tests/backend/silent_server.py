"""A server in front of Postgres that passes everything on until it falls silent, as a swallowed network does."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from psycopg.conninfo import conninfo_to_dict, make_conninfo


@dataclass
class SilentServer:
    """Passes bytes on in both directions; after `swallow` was seen in what the client says, answers nothing more."""

    target: tuple[str, int]
    swallow: bytes
    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    sockets: list[socket.socket] = field(default_factory=list)

    def serve(self) -> None:
        """Serves until it is closed."""
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.create_connection(self.target)
                self.sockets += [client, server]
                silent = threading.Event()
                for source, sink, listens in ((client, server, True), (server, client, False)):
                    threading.Thread(target=self._pass_on, args=(source, sink, silent, listens), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, silent: threading.Event, listens: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if listens and self.swallow in data:
                    silent.set()
                if not silent.is_set():
                    sink.sendall(data)


@contextmanager
def falling_silent(dsn: str, swallow: bytes) -> Iterator[str]:
    """The address of a server that falls silent for a client as soon as that says `swallow`."""
    parts = conninfo_to_dict(dsn)
    server = SilentServer((str(parts["host"]), int(parts["port"] or 5432)), swallow)
    threading.Thread(target=server.serve, daemon=True).start()
    try:
        yield make_conninfo(dsn, host="127.0.0.1", port=server.listener.getsockname()[1])
    finally:
        server.listener.close()
        for each in server.sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
