"""Runs the Airbyte CDK's connectors, one process each, for a parent in another interpreter.

Executed as a script by the connectors' own interpreter; nothing imports it. The CDK takes seconds to import, so this
process imports it once and forks a child per request; each child runs the CDK's own command line on descriptors that
came with the request. No child outlives this process and this process does not outlive its parent, whatever kills them.
Belongs here: processes and descriptors. Does not belong here: what connectors read or print.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import random
import selectors
import shutil
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

_PR_SET_PDEATHSIG = 1
_LARGEST_REQUEST = 65_536
_MOST_DESCRIPTORS = 8


@dataclass
class _Child:
    request_id: int
    pid: int
    pidfd: int
    folder: str


class ForkServer:
    """Forks connectors on request and reports their ends.

    Args:
        control: Packets from and to the parent; its end is the parent's.
        folder: Where children keep temporary files; removed with this process.
        entrypoint: What a child runs with its command line in `sys.argv`.
    """

    def __init__(self, control: socket.socket, folder: Path, entrypoint: Callable[[], None]) -> None:
        self._control = control
        self._folder = folder
        self._entrypoint = entrypoint
        self._selector = selectors.DefaultSelector()
        self._children: dict[int, _Child] = {}

    def serve(self) -> None:
        """Serves until the parent is gone, then ends every child."""
        self._selector.register(self._control, selectors.EVENT_READ)
        self._tell({"ready": True})
        alive = True
        while alive:
            for key, _ in self._selector.select():
                if key.fileobj is self._control:
                    alive = self._receive()
                else:
                    self._reap(key.data)
        for child in list(self._children.values()):
            os.kill(child.pid, signal.SIGKILL)
            self._reap(child)

    def _receive(self) -> bool:
        raw, descriptors, _, _ = socket.recv_fds(self._control, _LARGEST_REQUEST, _MOST_DESCRIPTORS)
        if not raw:
            return False
        request = json.loads(raw)
        if "kill" in request:
            child = self._children.get(request["kill"])
            if child is not None:
                os.kill(child.pid, signal.SIGKILL)
            return True
        self._start(request, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        return True

    def _start(self, request: dict[str, Any], descriptors: list[int]) -> None:
        folder = tempfile.mkdtemp(dir=self._folder)
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._selector.close()
            self._control.close()
            _become_connector(request, descriptors, folder, parent, self._entrypoint)
        child = _Child(request["id"], pid, os.pidfd_open(pid), folder)
        self._children[child.request_id] = child
        self._selector.register(child.pidfd, selectors.EVENT_READ, child)
        self._tell({"id": child.request_id, "pid": pid})

    def _reap(self, child: _Child) -> None:
        _, status = os.waitpid(child.pid, 0)
        self._selector.unregister(child.pidfd)
        os.close(child.pidfd)
        shutil.rmtree(child.folder, ignore_errors=True)  # a killed connector leaves its configuration there
        del self._children[child.request_id]
        self._tell({"id": child.request_id, "exit": os.waitstatus_to_exitcode(status)})

    def _tell(self, message: dict[str, Any]) -> None:
        with contextlib.suppress(
            BrokenPipeError, ConnectionResetError
        ):  # the parent is gone; the next read says so too
            self._control.send(json.dumps(message).encode())


def _become_connector(
    request: dict[str, Any], descriptors: list[int], folder: str, parent: int, entrypoint: Callable[[], None]
) -> NoReturn:
    """Never returns into the server's stack: a child ends here, however it ends."""
    code = 1
    try:
        _die_with(parent)
        output, errors, *inputs = descriptors
        os.dup2(output, 1)
        os.dup2(errors, 2)
        os.environ.clear()
        os.environ.update(request["environment"], TMPDIR=folder, HOME=folder)
        tempfile.tempdir = None
        os.chdir(folder)
        random.seed()
        _confine_network(*request["network"])
        sys.argv = ["source-declarative-manifest", *_arguments(request, inputs)]
        code = _run(entrypoint)
    except BaseException:  # noqa: BLE001  (whatever it is, it must reach the parent as text and not the server's loop)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _arguments(request: dict[str, Any], inputs: list[int]) -> list[str]:
    files = {name: f"/proc/self/fd/{descriptor}" for name, descriptor in zip(request["inputs"], inputs, strict=True)}
    flags = [part for name, path in files.items() for part in (f"--{name}", path)]
    return [request["command"], *flags]


def _run(entrypoint: Callable[[], None]) -> int:
    try:
        entrypoint()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001  (the CDK's hook turns it into a TRACE message, as at the end of any program)
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def _die_with(parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # it died before the line above


def _confine_network(host: str, port: int) -> None:
    """Lets the connector reach its platform and nothing else."""
    names = {host}
    addresses = {info[4][:2] for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    names.update(str(address[0]) for address in addresses)

    def judge(event: str, details: tuple[Any, ...]) -> None:
        if event == "socket.connect" and isinstance(details[1], tuple) and details[1][:2] not in addresses:
            raise PermissionError(f"this connector may only reach {host}:{port}")
        if event == "socket.getaddrinfo" and details[0] not in names:
            raise PermissionError(f"this connector may only reach {host}:{port}")

    sys.addaudithook(judge)


def main() -> None:
    """Serves on the socket whose descriptor is the first argument; temporary files go below the second."""
    control = socket.socket(fileno=int(sys.argv[1]))
    state_dir = Path(sys.argv[2])
    _remove_leftovers(state_dir)
    with tempfile.TemporaryDirectory(prefix=f"connectors-{os.getpid()}-", dir=state_dir) as folder:
        from airbyte_cdk.cli.source_declarative_manifest import run  # type: ignore[import-not-found,unused-ignore]

        gc.collect()
        gc.freeze()  # keeps the collector from touching, and so copying, the pages that all children share
        ForkServer(control, Path(folder), run).serve()


def _remove_leftovers(state_dir: Path) -> None:
    """Removes the folders of servers that were killed; their children died with them."""
    for folder in state_dir.glob("connectors-*-*"):
        pid = folder.name.split("-")[1]
        if not Path("/proc", pid).exists():
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
