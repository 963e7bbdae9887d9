"""A process that has imported dbt and forks a dbt for whoever asks: run by path, with a listening socket's number.

Belongs here: that process. Does not belong here: asking (`warm_dbt`). Each dbt is `dbt_child.py` with arguments,
environment, folder and streams of its own, as if Python had just started; only what dbt imports is there already. It
has one thread only, because what is forked has no other.
"""

from __future__ import annotations

import gc
import json
import os
import runpy
import select
import signal
import socket
import sys
import traceback
from typing import Any

_LARGEST_REQUEST = 1 << 20


def main() -> None:
    """Serves until standard input ends, which it does with the process that started this one."""
    gc.disable()
    import dbt.adapters.postgres
    import dbt.cli.main  # noqa: F401

    gc.freeze()
    server = socket.socket(fileno=int(sys.argv[1]))
    died, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(died, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    asking: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([server, died, 0], [], [])
        if 0 in ready and not os.read(0, 1):
            return
        if died in ready:
            os.read(died, 1024)
            _tell_the_ended(asking)
        if server in ready:
            peer, _ = server.accept()
            pid = _fork(server, peer)
            asking[pid] = peer
            peer.sendall(f"{pid}\n".encode())


def _tell_the_ended(asking: dict[int, socket.socket]) -> None:
    while asking:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        with asking.pop(pid) as peer:
            peer.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _fork(server: socket.socket, peer: socket.socket) -> int:
    content, streams, _, _ = socket.recv_fds(peer, _LARGEST_REQUEST, 2)
    while not content.endswith(b"\n"):
        content += peer.recv(_LARGEST_REQUEST)
    pid = os.fork()
    if pid == 0:
        server.close()
        peer.close()
        os._exit(_run(json.loads(content), *streams))
    for stream in streams:
        os.close(stream)
    return pid


def _run(request: dict[str, Any], given: int, told: int) -> int:
    """Becomes the dbt that was asked for; returns its exit code."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    gc.enable()
    for stream, number in ((given, 0), (told, 1), (told, 2)):
        os.dup2(stream, number)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    path, *arguments = request["arguments"]
    sys.argv = [path, *arguments]
    code: Any = 0
    try:
        runpy.run_path(path, run_name="__main__")
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001  (as the interpreter would)
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return int(code)


if __name__ == "__main__":
    main()
