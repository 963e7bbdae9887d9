"""Background processes that outlive the command which started them, and are found again.

Belongs here: starting one with its log, remembering it, stopping it with all its children. Does not belong here: what
runs (`stack`). A process is known by its pid and start time together, so that a recycled pid is never taken for ours.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from adinsights_orchestration.errors import AdinsightsError

_POLL_SECONDS = 0.1


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
    """

    name: str
    command: Sequence[str]
    folder: Path
    cwd: Path

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

    def start(self, env: Mapping[str, str]) -> None:
        """Starts the process in a session of its own, unless it runs already."""
        if self.find() is not None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            child = subprocess.Popen(
                list(self.command),
                cwd=self.cwd,
                env={**os.environ, **env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
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
        """Ends the process and its children: SIGTERM, then SIGKILL after the grace time; returns whether it ran."""
        process = self.find()
        if process is None:
            self._record.unlink(missing_ok=True)
            return False
        family = [process, *_children(process)]
        _end(process, psutil.Process.terminate)
        _, alive = psutil.wait_procs([process], timeout=grace_seconds)
        family = [member for member in family + [c for p in alive for c in _children(p)] if member.is_running()]
        for member in family:
            _end(member, psutil.Process.terminate)
        _, alive = psutil.wait_procs(family, timeout=5.0)
        for member in alive:
            _end(member, psutil.Process.kill)
        psutil.wait_procs(alive, timeout=5.0)
        self._record.unlink(missing_ok=True)
        return True

    def tail(self, lines: int = 5) -> str:
        """The last lines of the log, on one line."""
        try:
            text = self.log.read_text(errors="replace")
        except FileNotFoundError:
            return "no output"
        return " | ".join(line.strip() for line in text.splitlines()[-lines:] if line.strip()) or "no output"

    @property
    def _record(self) -> Path:
        return self.folder / f"{self.name}.json"


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def _end(process: psutil.Process, signal: Callable[[psutil.Process], None]) -> None:
    try:
        signal(process)
    except psutil.NoSuchProcess:
        return
