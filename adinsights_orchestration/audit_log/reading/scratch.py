"""Private folders for objects while they are decoded, of which none outlives its process for long.

Belongs here: making them and clearing away what killed processes left. Does not belong here: what is put into them. An
object holds what people did, in clear text; a process that is killed cannot remove its folder, so the next one does.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from tempfile import gettempdir, mkdtemp

PREFIX = "adinsights-audit-"


@contextmanager
def private_folder() -> Iterator[Path]:
    """A folder that only this user can read, for the body's time; those of processes that are gone are removed.

    Each is locked for as long as its process lives, so that whoever can lock one knows that nobody reads it.
    """
    remove_left_behind()
    folder, lock = _locked_folder()
    try:
        yield folder
    finally:
        rmtree(folder, ignore_errors=True)
        os.close(lock)


def remove_left_behind() -> list[Path]:
    """Removes this user's folders that no process holds, and says which."""
    removed = []
    for folder in Path(gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # another user's, or gone meanwhile, or held
            lock = _opened(folder)
            try:
                if os.fstat(lock).st_uid == os.geteuid():
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    rmtree(folder)
                    removed.append(folder)
            finally:
                os.close(lock)
    return removed


def _locked_folder() -> tuple[Path, int]:
    while True:
        folder = Path(mkdtemp(prefix=PREFIX))  # mode 0700
        with suppress(FileNotFoundError):  # another process took it for one left behind, before it was locked
            lock = _opened(folder)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.is_dir():
                return folder, lock
            os.close(lock)


def _opened(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
