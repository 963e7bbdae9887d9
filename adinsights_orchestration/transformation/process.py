"""One dbt process: starting it, reading its events, stopping it.

Belongs here: the process and its output. Does not belong here: what is asked of it (`command`) and what its events mean
(`builds`, `assets`). dagster-dbt starts dbt too, but runs `dbt --version` and connects to the warehouse beforehand, and
leaves dbt running when its own process is killed (docs/adr/0011).
"""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import structlog

from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.logs import get_logger
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.transformation.command import Command, environment

Event = Mapping[str, Any]
STOP_GRACE_SECONDS = 20.0
_CHILD = Path(__file__).with_name("dbt_child.py")
# What Python says in dbt when the folder or its disk takes nothing more; Postgres words its own full disk differently.
_OS_ERROR = re.compile(r"\[Errno (\d+)\]")
_UNWRITABLE = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO))
_LEVELS = {"debug": 10, "info": 20, "warn": 30, "error": 40}


class DbtError(AdinsightsError):
    """dbt did not do what it was asked, or some of what it built failed."""


class DbtProcess:
    """A running dbt command.

    Args:
        settings: Where the project and the warehouse are.
        command: What to do.
        target: Folder for what dbt writes; it exists.

    Attributes:
        errors: dbt's own error messages.
        unwritable: Why dbt could not write into its folder; None as long as it could.
    """

    def __init__(self, settings: Settings, command: Command, target: Path) -> None:
        self.command = command
        self.errors: list[str] = []
        self.unwritable: str | None = None
        self._logger = get_logger("dbt")
        self._killer: threading.Timer | None = None
        self._interrupting = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_CHILD), *command.arguments()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment(settings, command, target, os.environ),
            cwd=settings.dbt.project_dir,
        )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def events(self) -> Generator[Event, None, None]:
        """Yields dbt's structured events as they come; ends when dbt has ended.

        Every line is written to the log. Stops dbt when the reader is interrupted or stops reading.
        """
        assert self._process.stdout is not None
        try:
            for line in self._process.stdout:
                event = self._understood(line.decode(errors="replace").rstrip())
                if event is not None:
                    yield event
            self._process.wait()
        finally:
            self.stop()

    def run(self) -> int:
        """Reads everything and returns dbt's exit code."""
        for _event in self.events():
            pass
        return self.exit_code

    @property
    def exit_code(self) -> int:
        """0 everything succeeded, 1 something that was built or tested failed, anything else: not carried out."""
        code = self._process.poll()
        if code is None:
            raise ValueError("dbt has not ended yet")
        return code

    def interrupt(self) -> None:
        """Has dbt cancel its queries and end, and kills it when it does not; returns at once.

        For any thread: whoever reads the events comes to their end.
        """
        with self._interrupting:
            if self._killer is None and self._process.poll() is None:
                self._process.send_signal(signal.SIGINT)
                self._killer = threading.Timer(STOP_GRACE_SECONDS, self._process.kill)
                self._killer.daemon = True
                self._killer.start()

    def stop(self) -> None:
        """Interrupts dbt and waits for its end; an ended one is left alone."""
        self.interrupt()
        if self._process.poll() is None:
            self._drain()
            self._process.wait()
        if self._killer is not None:
            self._killer.cancel()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None and not stream.closed:
                stream.close()

    def _drain(self) -> None:
        """Takes what dbt still prints: a full pipe would hold it up."""
        stdout = self._process.stdout
        while stdout is not None and not stdout.closed and stdout.read(1 << 16):
            pass

    def _understood(self, line: str) -> Event | None:
        try:
            event = json.loads(line)
            info, data = event["info"], event["data"]
        except (ValueError, KeyError, TypeError):
            self._notice_unwritable(line)
            if line:
                # With a full disk each of dbt's log lines fails, and each failure says so on a page of its own.
                self._logger.log(_LEVELS["info" if self.unwritable is None else "debug"], line)
            return None
        if str(info["msg"]).strip():
            _log(self._logger, info, data)
        if info["level"] == "error":
            self.errors.append(str(info["msg"]))
            self._notice_unwritable(str(info["msg"]))
        return {"info": info, "data": data}

    def _notice_unwritable(self, text: str) -> None:
        found = _OS_ERROR.search(text)
        if found is not None and self.unwritable is None and int(found[1]) in _UNWRITABLE:
            self.unwritable = os.strerror(int(found[1]))
            self._logger.error("dbt cannot write into its folder", reason=self.unwritable)


def _log(logger: structlog.stdlib.BoundLogger, info: Mapping[str, Any], data: Mapping[str, Any]) -> None:
    node = data.get("node_info") or {}
    seconds = data.get("execution_time")
    fields = {
        "dbt_event": info.get("name"),
        "invocation_id": info.get("invocation_id"),
        "node": node.get("unique_id"),
        "node_status": node.get("node_status"),
        "duration_ms": round(seconds * 1000) if isinstance(seconds, int | float) else None,
    }
    known = {name: value for name, value in fields.items() if value is not None}
    logger.log(_LEVELS.get(info["level"], 20), str(info["msg"]), **known)
