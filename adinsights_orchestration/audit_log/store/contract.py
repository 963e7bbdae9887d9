"""What the archive asks of a store: objects that are created once and never overwritten.

Belongs here: the contract, and what every kind of store does alike. Does not belong here: the kinds (`bucket`,
`folder`), which of them is meant (`opening`), and what stands in an object. A refused object that holds the same bytes
counts as written, which makes every write repeatable: after a lost answer it is simply made again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from adinsights_orchestration.audit_log.store.errors import MissingObjectError, ObjectExistsError, StoreError

_CONFLICTS = 5


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
