"""What the archive asks of a store: objects that are created once and never overwritten.

Belongs here: the contract, and what every kind of store does alike. Does not belong here: the kinds (`bucket`,
`folder`), which of them is meant (`opening`), and what stands in an object. A refused object that holds the same bytes
counts as written, which makes every write repeatable: after a lost answer it is simply made again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from adinsights_orchestration.audit_log.store.errors import MissingObjectError, ObjectExistsError, StoreError

_CONFLICTS = 5


@dataclass(frozen=True, slots=True)
class InPlace:
    """An object that can be read where it lies: a file of this machine, as it was when all of its bytes were hashed.

    Attributes:
        path: The file.
        size: How many bytes were hashed.
        sha256: What they hash to, in hex.
        stamp: Which file it was, and when it was last written to.
    """

    path: Path
    size: int
    sha256: str
    stamp: tuple[int, ...]

    def untouched(self) -> bool:
        """Whether it is still that file, and nobody has written to it since."""
        try:
            return stamp_of(self.path.stat()) == self.stamp
        except OSError:
            return False


def stamp_of(found: os.stat_result) -> tuple[int, ...]:
    """What changes when a file is replaced or written to."""
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


class Store(Protocol):
    """Objects below one root."""

    url: str

    def create(self, key: str, content: bytes) -> None:
        """Writes a new object, durably.

        Raises:
            ObjectExistsError: The key exists; it is as it was.
            StoreError: It could not be written, or nobody knows.
        """

    def get(self, key: str) -> bytes:
        """The bytes of an object; `MissingObjectError` when there is none."""

    def in_place(self, key: str) -> InPlace | None:
        """Hashes an object where it lies; None where it must be fetched to be read.

        Raises:
            MissingObjectError: There is none.
        """

    def delete(self, key: str) -> None:
        """Removes an object; one that is not there is no error."""

    def keys(self, prefix: str) -> Iterator[str]:
        """The keys below a prefix that ends with a slash, in no order."""


def create_same(store: Store, key: str, content: bytes) -> bool:
    """Writes an object, or finds it there with the same bytes; returns whether it was new.

    Raises:
        ObjectExistsError: It is there with other bytes.
    """
    for _ in range(_CONFLICTS):
        try:
            store.create(key, content)
        except ObjectExistsError:
            try:
                known = store.get(key)
            except MissingObjectError:
                continue  # S3 refuses whoever writes while another does, who may fail: then it is ours to write
            if known == content:
                return False
            raise
        return True
    raise StoreError(
        "another writer begins this object again and again, and never ends",
        place=key,
        next_step="Look for a second process that archives into the same place; the next run tries again.",
    )
