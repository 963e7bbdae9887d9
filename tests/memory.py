"""Where test servers keep their data: in memory where that is large enough, and else on disk.

What a test server does most is to make databases of a few hundred files each and to remove them, and a disk's file
system takes four times as long for that. A session that was killed leaves its folder behind; the next one removes it.
"""

from __future__ import annotations

import fcntl
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MEMORY = Path("/dev/shm")
ENOUGH_BYTES = 8 * 1024**3
PREFIX = "adinsights-test-"
# Between making a folder and locking it another session may look.
_YOUNG_SECONDS = 60.0


@contextmanager
def scratch_folder(name: str, memory: Path = MEMORY, enough_bytes: int = ENOUGH_BYTES) -> Iterator[Path]:
    """A folder that other users can enter, for as long as the context lasts; in `memory` if so much is free there."""
    remove_abandoned(memory)
    roomy = memory.is_dir() and shutil.disk_usage(memory).free >= enough_bytes
    with tempfile.TemporaryDirectory(prefix=f"{PREFIX}{name}-", dir=memory if roomy else None) as made:
        folder = Path(made)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            folder.chmod(0o755)
            yield folder


def remove_abandoned(memory: Path = MEMORY) -> None:
    """Removes what killed sessions left in memory: nobody holds the lock of such a folder."""
    for folder in memory.glob(f"{PREFIX}*"):
        with suppress(OSError):  # another user's, or another session removes it as well
            if time.time() - folder.stat().st_ctime < _YOUNG_SECONDS:
                continue
            with (folder / "lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
