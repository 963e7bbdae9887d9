"""Connector processes, seen from the service: start one, read what it prints, end it.

Belongs here: the fork server's other end (`fork_server.py` runs in the connectors' interpreter), pipes and exit codes.
Does not belong here: what the lines mean. Manifest, configuration, catalog and state reach a connector through files
in memory, so that a token is never a file of ours on disk. A child dies with the fork server, and that with us.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from adinsights_orchestration.errors import AdinsightsError

_FORK_SERVER = Path(__file__).with_name("fork_server.py")
_START_TIMEOUT_SECONDS = 60.0
_STOP_TIMEOUT_SECONDS = 5.0
_CHUNK_BYTES = 256 * 1024
_ERROR_TAIL_BYTES = 4096
_ENVIRONMENT: Mapping[str, str] = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "PYTHONUTF8": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "DO_NOT_TRACK": "1",
    "NO_PROXY": "*",
    # One sync is one core's work at most; math libraries would start a thread per core at import.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}


class ConnectorProcessError(AdinsightsError):
    """The connectors' interpreter did not start, or ended unasked."""


@dataclass(frozen=True, slots=True)
class _Pipe:
    reader: asyncio.StreamReader
    transport: asyncio.ReadTransport


@dataclass(frozen=True, slots=True)
class Command:
    """What a connector is started with.

    Args:
        name: The CDK's command: `read`, `check` or `discover`.
        inputs: The command's documents by the flag that names them: `manifest-path`, `config`, `catalog`, `state`.
        base_url: The only address that the connector may reach.
    """

    name: str
    inputs: Mapping[str, object]
    base_url: str

    def network(self) -> tuple[str, int]:
        """Returns host and port of the platform."""
        parts = urlsplit(self.base_url)
        if parts.hostname is None:
            raise ConnectorProcessError(
                f"base_url {self.base_url!r} is not an address", next_step="Give http://host:port."
            )
        return parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


class ConnectorProcess:
    """A running connector.

    Args:
        pid: The process' id.
        kill: Ends it.
        exited: Its exit code, once it has ended.
        output: Its standard output.
        errors: Its standard error.
    """

    def __init__(
        self, pid: int, kill: Callable[[], None], exited: asyncio.Future[int], output: _Pipe, errors: _Pipe
    ) -> None:
        self.pid = pid
        self.kill = kill
        self._exited = exited
        self._output = output
        self._errors = errors
        self._tail = asyncio.create_task(_tail(errors.reader))

    async def lines(self, timeout_seconds: float) -> AsyncIterator[list[bytes]]:
        """Yields whole lines in batches as they arrive; `TimeoutError` after that long a silence."""
        rest = b""
        while chunk := await asyncio.wait_for(self._output.reader.read(_CHUNK_BYTES), timeout_seconds):
            *whole, rest = (rest + chunk).split(b"\n")
            yield [line for line in whole if line]
        if rest:
            yield [rest]

    async def wait(self) -> tuple[int, str]:
        """Waits for the end; returns the exit code (negative for a signal) and the end of standard error."""
        code = await asyncio.shield(self._exited)
        return code, (await self._tail).decode(errors="replace").strip()

    async def end(self) -> None:
        """Ends it if it still runs, and gives back its pipes."""
        self.kill()
        with contextlib.suppress(ConnectorProcessError):
            await asyncio.shield(self._exited)
        self._output.transport.close()
        self._errors.transport.close()
        await self._tail


@dataclass
class ForkServer:
    """The process that connectors are forked from; started when first needed, and again if it died.

    Args:
        python: Interpreter that has the Airbyte CDK.
        state_dir: Folder for its temporary files and its log.
    """

    python: Path
    state_dir: Path
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _control: socket.socket | None = field(default=None, init=False)
    _loop: asyncio.AbstractEventLoop | None = field(default=None, init=False)
    _starting: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    _ready: asyncio.Future[None] | None = field(default=None, init=False)
    _started: dict[int, asyncio.Future[int]] = field(default_factory=dict, init=False)
    _exited: dict[int, asyncio.Future[int]] = field(default_factory=dict, init=False)
    _last_id: int = field(default=0, init=False)

    async def start(self) -> None:
        """Starts the fork server if it does not run; importing the CDK takes it seconds."""
        async with self._starting:
            await self._ensure_started()

    @asynccontextmanager
    async def running(self, command: Command) -> AsyncIterator[ConnectorProcess]:
        """Starts a connector for the time of the block; one that still runs at its end is killed."""
        await self.start()
        process = await self._start(command)
        try:
            yield process
        finally:
            await process.end()

    async def _start(self, command: Command) -> ConnectorProcess:
        request_id = self._last_id = self._last_id + 1
        loop = asyncio.get_running_loop()
        started, exited = loop.create_future(), loop.create_future()
        output_end, errors_end = self._send(request_id, command)
        self._started[request_id], self._exited[request_id] = started, exited
        output, errors = await _pipe(output_end), await _pipe(errors_end)

        def kill() -> None:
            self._kill(request_id)

        try:
            return ConnectorProcess(await started, kill, exited, output, errors)
        except BaseException:
            kill()
            output.transport.close()
            errors.transport.close()
            raise

    def _kill(self, request_id: int) -> None:
        if self._control is not None and request_id in self._exited:
            with contextlib.suppress(OSError):
                self._control.send(json.dumps({"kill": request_id}).encode())

    def close(self) -> None:
        """Ends the fork server and every connector."""
        control, process, loop = self._control, self._process, self._loop
        self._control = self._process = self._loop = None
        if control is not None and loop is not None:
            if not loop.is_closed():
                loop.remove_reader(control)
                self._fail_waiting()
            control.close()
        if process is not None:
            _wait_or_kill(process)

    async def _ensure_started(self) -> None:
        loop = asyncio.get_running_loop()
        if self._control is not None and loop is self._loop:
            return
        self.close()
        self._ready = loop.create_future()
        self._control, self._loop = self._spawn(), loop
        loop.add_reader(self._control, self._receive)
        await asyncio.wait_for(asyncio.shield(self._ready), _START_TIMEOUT_SECONDS)

    def _spawn(self) -> socket.socket:
        self.state_dir.mkdir(parents=True, exist_ok=True)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, (self.state_dir / "connectors.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self.python), str(_FORK_SERVER), str(theirs.fileno()), str(self.state_dir)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(_ENVIRONMENT),
                start_new_session=True,  # Ctrl-C is the service's business, which ends us in its own time
            )
        ours.setblocking(False)
        return ours

    def _send(self, request_id: int, command: Command) -> tuple[int, int]:
        assert self._control is not None
        host, port = command.network()
        request = {
            "id": request_id,
            "command": command.name,
            "inputs": list(command.inputs),
            "environment": dict(_ENVIRONMENT),
            "network": [host, port],
        }
        output, output_end = os.pipe()
        errors, errors_end = os.pipe()
        inputs = [_memory_file(name, document) for name, document in command.inputs.items()]
        theirs = [output_end, errors_end, *inputs]
        try:
            socket.send_fds(self._control, [json.dumps(request).encode()], theirs)
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        return output, errors

    def _receive(self) -> None:
        assert self._control is not None
        try:
            raw = self._control.recv(65_536)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            raw = b""
        if not raw:
            self.close()
            return
        self._handle(json.loads(raw))

    def _handle(self, message: dict[str, Any]) -> None:
        if "ready" in message:
            assert self._ready is not None
            _settle(self._ready, None)
        elif "pid" in message:
            _settle(self._started.pop(message["id"]), message["pid"])
        else:
            _settle(self._exited.pop(message["id"]), message["exit"])

    def _fail_waiting(self) -> None:
        error = ConnectorProcessError(
            "the connectors' process ended", next_step=f"See {self.state_dir / 'connectors.log'}."
        )
        waiting: list[asyncio.Future[Any]] = [*self._started.values(), *self._exited.values()]
        if self._ready is not None:
            waiting.append(self._ready)
        for future in waiting:
            if not future.done():
                future.set_exception(error)
                future.exception()  # whoever awaits it gets it; nobody may be left
        self._started.clear()
        self._exited.clear()


def _settle(future: asyncio.Future[Any], result: Any) -> None:
    if not future.done():  # whoever waited may have been cancelled
        future.set_result(result)


def _wait_or_kill(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_STOP_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _memory_file(name: str, document: object) -> int:
    descriptor = os.memfd_create(name)
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(json.dumps(document, ensure_ascii=False).encode())
    return descriptor


async def _pipe(descriptor: int) -> _Pipe:
    reader = asyncio.StreamReader(limit=_CHUNK_BYTES)
    file = os.fdopen(descriptor, "rb", buffering=0)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), file)
    return _Pipe(reader, transport)


async def _tail(reader: asyncio.StreamReader) -> bytes:
    tail = b""
    while chunk := await reader.read(_CHUNK_BYTES):
        tail = (tail + chunk)[-_ERROR_TAIL_BYTES:]
    return tail
