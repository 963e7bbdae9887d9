"""Replacing a file that others read, as a whole.

Belongs here: writing one file so that any reader, and any crash, sees the old content or the new, and what that takes
of its folder. Does not belong here: what stands in it.
"""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from pathlib import Path

_READABLE_BY_ALL = 0o644  # its readers run as other users


def replace_whole(path: Path, content: bytes) -> None:
    """Replaces a file, never leaving a part of either content.

    One writer at a time: what a writer that was killed left behind is deleted by the next one.

    Args:
        path: The file; its folder is made when it is missing.
        content: All of it.

    Raises:
        OSError: It could not be written; the old file is as it was.
    """
    # A link stays a link: what it points to is replaced, beside itself, because a rename cannot cross file systems.
    path = path.resolve()
    replacement = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for leftover in path.parent.glob(f".{path.name}.*.new"):
            leftover.unlink(missing_ok=True)
        _write_through(replacement, content)
        replacement.replace(path)
        sync_folder(path.parent)
    except OSError:
        with suppress(OSError):
            replacement.unlink()
        raise


def _write_through(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        os.fchmod(file.fileno(), _READABLE_BY_ALL)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Makes what was created, renamed or deleted in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
