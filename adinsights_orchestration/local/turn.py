"""One `adinsights local` command at a time on one state folder, and who it is.

Belongs here: the lock, its holder, and asking the holder to end. Does not belong here: what a command does with its
turn. The kernel gives the lock back however the holder dies; what the file says only names it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psutil

from adinsights_orchestration.errors import AdinsightsError

_POLL_SECONDS = 0.2
# Longer than the stack's own stop: Dagster's grace time, Postgres' and the service's.
_LONGEST_WAIT_SECONDS = 150.0


class TurnError(AdinsightsError):
    """Another command is at work on the same folder."""


@dataclass(frozen=True, slots=True)
class Holder:
    """The command that has the turn."""

    command: str
    process: psutil.Process


@dataclass(frozen=True, slots=True)
class Turn:
    """The turn of one state folder.

    Args:
        folder: The state folder.
    """

    folder: Path

    @contextmanager
    def taken(self, command: str) -> Iterator[None]:
        """Takes the turn for the block; a `TurnError` names who has it."""
        with self._file() as file:
            if not _locked(file):
                holder = self.holder()
                who = f"`adinsights local {holder.command}` (pid {holder.process.pid})" if holder else "another command"
                raise TurnError(f"{who} is at work", place=str(self.folder), next_step="Wait for it, or `make down`.")
            _sign(file, command)
            yield

    @contextmanager
    def taken_over(self, command: str, ask: Callable[[Holder], None]) -> Iterator[None]:
        """Takes the turn for the block once its holder is done.

        Args:
            command: Who takes it.
            ask: Called once with each holder that is found meanwhile.
        """
        deadline = time.monotonic() + _LONGEST_WAIT_SECONDS
        asked: set[int] = set()
        with self._file() as file:
            while not _locked(file):
                holder = self.holder()
                if holder is not None and holder.process.pid not in asked:
                    asked.add(holder.process.pid)
                    ask(holder)
                if time.monotonic() > deadline:
                    raise TurnError(
                        f"another command is still at work after {_LONGEST_WAIT_SECONDS:.0f} s", place=str(self.folder)
                    )
                time.sleep(_POLL_SECONDS)
            _sign(file, command)
            yield

    def holder(self) -> Holder | None:
        """Who has the turn, as far as its signature is that of a living process."""
        try:
            signature = json.loads((self.folder / "lock").read_text())
            process = psutil.Process(signature["pid"])
            same = abs(process.create_time() - signature["created"]) < 1.0
            return Holder(str(signature["command"]), process) if same and process.pid != os.getpid() else None
        except (OSError, ValueError, TypeError, KeyError, psutil.Error):
            return None

    @contextmanager
    def _file(self) -> Iterator[IO[str]]:
        self.folder.mkdir(parents=True, exist_ok=True)
        # Not emptied on opening: it names the holder to whoever comes in vain.
        with (self.folder / "lock").open("a+") as file:
            yield file


def _locked(file: IO[str]) -> bool:
    with contextlib.suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _sign(file: IO[str], command: str) -> None:
    created = psutil.Process().create_time()
    file.seek(0)
    file.truncate()
    file.write(json.dumps({"command": command, "pid": os.getpid(), "created": created}))
    file.flush()
