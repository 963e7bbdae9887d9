"""Background processes that outlive the command which started them, and are found again.

Belongs here: starting one with its log, remembering it, stopping it with all that it started. Does not belong here:
what runs (`stack`). A process is known by its pid and start time together, so that a recycled pid is never taken for
ours; what it starts is known by a mark in its environment, which stays when a kill has cut it off from its parent.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from adinsights_orchestration.errors import AdinsightsError

MARK_VARIABLE = "ADINSIGHTS_LOCAL_PROCESS"
_POLL_SECONDS = 0.1
_MEMBERS_GRACE_SECONDS = 5.0
_PR_SET_PDEATHSIG = 1


class ProcessError(AdinsightsError):
    """A background process did not start, or ended by itself."""


@dataclass(frozen=True, slots=True)
class BackgroundProcess:
    """One background process, identified by its name in `folder`.

    Args:
        name: Short name; its record is `<folder>/<name>.json`, its log `<folder>/<name>.log`.
        command: Program and arguments.
        folder: Where record and log live.
        cwd: Working directory of the process.
        die_with_parent: End the process when the one that started it dies, however it dies (on Linux).
    """

    name: str
    command: Sequence[str]
    folder: Path
    cwd: Path
    die_with_parent: bool = False

    @property
    def log(self) -> Path:
        """The process's output."""
        return self.folder / f"{self.name}.log"

    def find(self) -> psutil.Process | None:
        """Returns the running process, or None."""
        try:
            record = json.loads(self._record.read_text())
            process = psutil.Process(record["pid"])
            same = abs(process.create_time() - record["created"]) < 1.0
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except (FileNotFoundError, ValueError, TypeError, KeyError, psutil.Error):
            return None

    def leftovers(self) -> list[psutil.Process]:
        """Everything that such a process once started and that outlived it, after a kill."""
        return _marked(self._mark) if self.find() is None else []

    def start(self, env: Mapping[str, str]) -> None:
        """Starts the process in a session of its own, unless it runs already; ends what a killed one left behind."""
        if self.find() is not None:
            return
        _end_all(self.leftovers())
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            child = subprocess.Popen(
                list(self.command),
                cwd=self.cwd,
                env={**os.environ, **env, MARK_VARIABLE: self._mark},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=dying_with_parent(signal.SIGTERM) if self.die_with_parent else None,  # noqa: PLW1509
            )
        created = psutil.Process(child.pid).create_time()
        unfinished = self._record.with_suffix(".tmp")
        unfinished.write_text(json.dumps({"pid": child.pid, "created": created}))
        unfinished.replace(self._record)

    def wait_until(self, ready: Callable[[], bool], *, timeout_seconds: float) -> None:
        """Returns once `ready()`; a process that ends or is late is a `ProcessError` with its last lines."""
        deadline = time.monotonic() + timeout_seconds
        while not ready():
            if self.find() is None:
                raise ProcessError(f"{self.name} ended while starting: {self.tail()}", next_step=f"See {self.log}.")
            if time.monotonic() > deadline:
                raise ProcessError(
                    f"{self.name} was not ready after {timeout_seconds:.0f} s", next_step=f"See {self.log}."
                )
            time.sleep(_POLL_SECONDS)

    def stop(self, *, grace_seconds: float = 25.0) -> bool:
        """Ends the process and all that it started: SIGTERM, then SIGKILL after the grace time.

        Args:
            grace_seconds: How long the process itself may take; what it leaves behind gets five seconds more.

        Returns:
            Whether anything ran.
        """
        process = self.find()
        if process is not None:
            _signal([process], psutil.Process.terminate)
            psutil.wait_procs([process], timeout=grace_seconds)
        members = _marked(self._mark)
        _end_all(members)
        self._record.unlink(missing_ok=True)
        return process is not None or bool(members)

    def tail(self, lines: int = 5) -> str:
        """The last lines of the log, on one line."""
        try:
            text = self.log.read_text(errors="replace")
        except FileNotFoundError:
            return "no output"
        return " | ".join(line.strip() for line in text.splitlines()[-lines:] if line.strip()) or "no output"

    @property
    def _mark(self) -> str:
        return str(self.folder.resolve() / self.name)

    @property
    def _record(self) -> Path:
        return self.folder / f"{self.name}.json"


def dying_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """What a child calls before it becomes its program, so that the kernel sends it the signal once its parent is dead.

    One call into a library that is loaded beforehand: after a fork beside threads hardly more is safe.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, number)


def _marked(mark: str) -> list[psutil.Process]:
    """The processes that carry the mark: whom `start` started, and everybody whom these started."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK_VARIABLE) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.Error, OSError):  # another user's, the kernel's, or gone
            continue
    return found


def _end_all(processes: Sequence[psutil.Process]) -> None:
    _signal(processes, psutil.Process.terminate)
    _, alive = psutil.wait_procs(processes, timeout=_MEMBERS_GRACE_SECONDS)
    _signal(alive, psutil.Process.kill)
    psutil.wait_procs(alive, timeout=_MEMBERS_GRACE_SECONDS)


def _signal(processes: Sequence[psutil.Process], send: Callable[[psutil.Process], None]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            send(process)
