"""The archive in a folder: objects are files that appear whole, last a power cut, and are nobody else's to read.

Belongs here: creating, reading and listing files below one root. Does not belong here: object stores (`bucket`). A file
is written and synced under another name and then linked to its own, which the file system refuses when that exists: no
reader ever sees half of one, and no writer replaces one. (obstore's own local store syncs nothing, and leaves the mode
to the umask.)
"""

from __future__ import annotations

import errno
import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from adinsights_orchestration.audit_log.store.contract import InPlace, stamp_of
from adinsights_orchestration.audit_log.store.errors import (
    MissingObjectError,
    ObjectExistsError,
    RefusedError,
    StoreError,
)
from adinsights_orchestration.whole_file import sync_folder

_PRIVATE_FILE = 0o600
_PRIVATE_FOLDER = 0o700
_UNFINISHED = ".new"
_NO_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS})
_PATTERN = frozenset("*?[")


class Folder:
    """A store in a folder, which is made at the first write.

    Args:
        root: The archive's root.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = root.absolute().as_uri()

    def create(self, key: str, content: bytes) -> None:
        """As `Store`: when it returns, file, name and folders are on the disk."""
        path = self.path(key)
        with _translated(key):
            self._make_folder(path.parent)
            unfinished = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}{_UNFINISHED}")
            try:
                _write_through(unfinished, content)
                _link(unfinished, path)
            finally:
                with suppress(OSError):
                    unfinished.unlink()
            sync_folder(path.parent)
        with os.scandir(path.parent) as entries:
            for entry in entries:
                if entry.name.startswith(f".{path.name}.") and entry.name.endswith(_UNFINISHED):
                    Path(entry).unlink(missing_ok=True)  # of a writer that was killed

    def get(self, key: str) -> bytes:
        """As `Store`."""
        with _translated(key):
            return self.path(key).read_bytes()

    def in_place(self, key: str) -> InPlace | None:
        """As `Store`; None where a name would pass for a pattern with whoever reads by path."""
        path = self.path(key).absolute()
        if _PATTERN.intersection(str(path)):
            return None
        with _translated(key), path.open("rb") as file:
            stamp = stamp_of(os.fstat(file.fileno()))
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            return InPlace(path, file.tell(), sha256, stamp)

    def delete(self, key: str) -> None:
        """As `Store`."""
        with _translated(key):
            self.path(key).unlink(missing_ok=True)
            if self.path(key).parent.exists():
                sync_folder(self.path(key).parent)

    def keys(self, prefix: str) -> Iterator[str]:
        """As `Store`."""
        with _translated(prefix):
            for path in self.path(prefix).rglob("*"):
                if path.is_file() and not path.name.endswith(_UNFINISHED):
                    yield path.relative_to(self.root).as_posix()

    def path(self, key: str) -> Path:
        """Where the file of a key is."""
        if ".." in key.split("/"):
            raise StoreError("a key must stay below the root", place=key)
        return self.root / key

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        if folder != folder.parent:
            self._make_folder(folder.parent)
        with suppress(FileExistsError):
            folder.mkdir(mode=_PRIVATE_FOLDER)
        sync_folder(folder.parent)


def _write_through(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE_FILE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _link(unfinished: Path, path: Path) -> None:
    try:
        os.link(unfinished, path)
    except FileNotFoundError:  # the writer that won took ours for a leftover
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        raise
    except OSError as error:
        if error.errno not in _NO_LINKS:  # EPERM among them: whose file it is, is no question of ours
            raise
        raise RefusedError(
            f"the archive's file system makes no hard links ({error.strerror})",
            place=path.name,
            next_step="SMB and some FUSE mounts make none: put the archive on another file system, or into a bucket.",
        ) from None


_ADVICE = {
    errno.ENOSPC: "The disk is full; free some of it. What was begun is taken up by the next run.",
    errno.EDQUOT: "The quota is used up. What was begun is taken up by the next run.",
    errno.EROFS: "The file system is read-only; mount it for writing.",
    errno.EACCES: "Give the folder to the user that the orchestrator runs as.",
    errno.EPERM: "Give the folder to the user that the orchestrator runs as.",
}


@contextmanager
def _translated(key: str) -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        raise ObjectExistsError("the object exists already, and is not overwritten", place=key) from None
    except FileNotFoundError:
        raise MissingObjectError("there is no such object", place=key) from None
    except OSError as error:
        kind = RefusedError if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) else StoreError
        raise kind(
            f"the archive's folder does not serve us ({error.strerror})",
            place=key,
            next_step=_ADVICE.get(error.errno or 0, "Check the disk that the archive lies on."),
        ) from None
