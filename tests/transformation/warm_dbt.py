"""dbt without its start: for tests of what happens around a build, of which importing dbt was half the CPU.

Belongs here: standing in for `subprocess.Popen`, in this process alone, with a dbt forked from one that has imported it
(`warm_dbt_server`). Does not belong here: how dbt is really started and stopped, which `test_process` holds, and limits
that a child takes from its parent (`test_full_disk`): this dbt's parent is another process.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_SERVER = Path(__file__).with_name("warm_dbt_server.py")


class WarmDbt:
    """Takes the place of the module `subprocess` where a dbt is started.

    Args:
        address: Where the process that has imported dbt listens.
    """

    PIPE, STDOUT = subprocess.PIPE, subprocess.STDOUT

    def __init__(self, address: str) -> None:
        self._address = address

    def Popen(  # noqa: N802  (as there)
        self, arguments: Sequence[str], *, stdin: int, stdout: int, stderr: int, env: Mapping[str, str], cwd: Path
    ) -> Forked:
        """Starts a dbt; `arguments` are those of a Python that runs a file."""
        assert (stdin, stdout, stderr) == (self.PIPE, self.PIPE, self.STDOUT)
        assert arguments[:2] == [sys.executable, "-P"]
        return Forked(self._address, arguments[2:], env, cwd)


class Forked:
    """A process that another one forked, with what is needed of `subprocess.Popen`."""

    def __init__(self, address: str, arguments: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        request = {"arguments": arguments, "environment": dict(environment), "folder": str(folder)}
        (given, to_stdin), (from_stdout, told) = os.pipe(), os.pipe()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(address)
        socket.send_fds(self._socket, [json.dumps(request).encode() + b"\n"], [given, told])
        os.close(given)
        os.close(told)
        self.stdin: IO[bytes] = os.fdopen(to_stdin, "wb", buffering=0)
        self.stdout: IO[bytes] = os.fdopen(from_stdout, "rb")
        self._replies = self._socket.makefile("rb")
        self.pid = int(self._replies.readline())
        self.returncode: int | None = None
        self._asking = threading.Lock()

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        with self._asking:
            if self.returncode is None and select.select([self._socket], [], [], 0)[0]:
                self.returncode = int(self._replies.readline())
                self._replies.close()
            return self.returncode

    def wait(self) -> int:
        """Waits for its end."""
        while (code := self.poll()) is None:
            select.select([self._socket], [], [], 1.0)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Sends a signal unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kills it unless it has ended."""
        self.send_signal(signal.SIGKILL)


@contextmanager
def warm_dbt_server() -> Iterator[WarmDbt]:
    """A process that has imported dbt, for as long as the context lasts."""
    with tempfile.TemporaryDirectory(prefix="adinsights-dbt-") as folder, socket.socket(socket.AF_UNIX) as listening:
        address = str(Path(folder) / "socket")
        listening.bind(address)
        listening.listen()
        number = listening.fileno()
        command = [sys.executable, "-P", str(_SERVER), str(number)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[number]):
            yield WarmDbt(address)
