"""The folders that dbt writes into: one per dbt process, locked while it runs, deleted some hours later.

Belongs here: making, locking and pruning these folders, and the saved parse that new ones start from. Does not belong
here: what the files in them mean. A folder of its own keeps concurrent dbt processes apart; the lock belongs to an open
file, so a process that dies gives it up without doing anything, and no running one's folder is ever pruned.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path

from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.logs import get_logger

PARSE_FILE = "partial_parse.msgpack"
_LOCK_FILE = ".in-use"
_RUNS = "runs"
_PREPARED = "prepared"
MAKE_ROOM = (
    "Make room on its disk, or give write permission; a lower ADINSIGHTS_DBT__KEEP_TARGET_HOURS has older folders"
    " deleted sooner. The next build starts anew."
)

logger = get_logger(__name__)


class TargetError(AdinsightsError):
    """dbt's folder cannot be written."""


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turns what the disk refuses inside the block into a `TargetError` that names the folder."""
    try:
        yield
    except OSError as error:
        raise TargetError(
            f"dbt's folder cannot be written ({error.strerror or error})", place=str(folder), next_step=MAKE_ROOM
        ) from error


class Targets:
    """The folder `target` of a dbt project, as this package uses it.

    Args:
        project_dir: The dbt project.
    """

    def __init__(self, project_dir: Path) -> None:
        self.root = project_dir / "target"

    @property
    def prepared(self) -> Path:
        """Where the prepared manifest and saved parses are. dbt by hand writes beside it, never into it."""
        return self.root / _PREPARED

    @property
    def runs(self) -> Path:
        """Where the folders of single runs are."""
        return self.root / _RUNS

    @contextmanager
    def fresh(self, name: str, parse_key: str) -> Iterator[Path]:
        """Makes a folder for one dbt process, with the saved parse for `parse_key` in it, locked inside the block.

        The folder stays for whoever wants to look at dbt's logs and compiled SQL, until it is pruned. A better parse
        that dbt leaves in it is kept for the next process.

        Raises:
            TargetError: It cannot be made (disk full, no permission); nothing is left of it.
        """
        folder = self.runs / f"{name}-{uuid.uuid4().hex[:8]}"
        with ExitStack() as stack:
            with writing(folder):
                before = self._furnish(folder, parse_key, stack)
            yield folder
            self._keep_parse(folder, parse_key, before)

    def _furnish(self, folder: Path, parse_key: str, stack: ExitStack) -> int | None:
        """Makes and locks a folder until the stack ends; returns when the parse lent to it was written."""
        try:
            folder.mkdir(parents=True)
            lock = os.open(folder / _LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
            stack.callback(os.close, lock)
            fcntl.flock(lock, fcntl.LOCK_EX)
            return self._lend_parse(folder, parse_key)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def prune(self, now: datetime, keep: timedelta) -> int:
        """Deletes the folders that nobody uses and nothing was written to since `now - keep`; returns how many."""
        oldest = (now - keep).timestamp()
        found = [folder for folder in _folders(self.runs) if _newest(folder) < oldest]
        return sum(_delete_unused(folder) for folder in found)

    def save_parse(self, parse: Path, parse_key: str) -> None:
        """Keeps a saved parse for later processes; one that is being read elsewhere stays whole.

        It only saves time: where it cannot be written, the one before it stays.
        """
        kept = self._parse(parse_key)
        replacement = kept.with_name(f".{kept.name}.{uuid.uuid4().hex[:8]}")
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(parse, replacement)
            replacement.replace(kept)
        except OSError as error:
            logger.warning("dbt's saved parse could not be kept", path=str(kept), reason=error.strerror)
            with suppress(OSError):
                replacement.unlink()

    def _parse(self, parse_key: str) -> Path:
        return self.prepared / f"parse-{parse_key}.msgpack"

    def _lend_parse(self, folder: Path, parse_key: str) -> int | None:
        lent = folder / PARSE_FILE
        with suppress(FileNotFoundError):
            shutil.copyfile(self._parse(parse_key), lent)
            return lent.stat().st_mtime_ns
        return None

    def _keep_parse(self, folder: Path, parse_key: str, before: int | None) -> None:
        left = folder / PARSE_FILE
        if left.exists() and left.stat().st_mtime_ns != before:
            self.save_parse(left, parse_key)


def _folders(parent: Path) -> list[Path]:
    try:
        return [entry for entry in parent.iterdir() if entry.is_dir()]
    except OSError:
        return []  # whoever writes there next says what is wrong with it


def _newest(folder: Path) -> float:
    """When anything directly in the folder was last written; infinity for a folder that somebody else just deleted."""
    try:
        return max([folder.stat().st_mtime, *(entry.stat().st_mtime for entry in folder.iterdir())])
    except FileNotFoundError:
        return float("inf")


def _delete_unused(folder: Path) -> bool:
    try:
        # Opened and never made here: a full disk is when pruning matters most.
        lock = os.open(folder / _LOCK_FILE, os.O_RDWR)
    except FileNotFoundError:
        shutil.rmtree(folder, ignore_errors=True)  # nobody who uses one is without it for hours
        return not folder.exists()
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        shutil.rmtree(folder, ignore_errors=True)
        return True
    finally:
        os.close(lock)
