"""What the archive is made of, as values: chunks, the files that hold them, and the states that a chunk goes through.

Belongs here: the values and which state may follow which. Does not belong here: where they are kept (`bookkeeping`,
`store`). A chunk is one tenant's UTC day; each time that the day is archived anew it gets the next revision. A chunk
tells two contents: what the archive holds of it, and what of that the table held when it was archived. They are the
same until rows leave the table; a later revision keeps in the archive what the table has lost. What leaves the archive
itself is told as a value too (`Gone`): nothing of it disappears without one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

from adinsights_orchestration.audit_log.source import Column

At = tuple[UUID, date]  # a tenant's day


class State(StrEnum):
    """Where a chunk stands."""

    PLANNED = "planned"  # its content is known and its objects are about to be written
    EXPORTED = "exported"  # its objects are in the store
    VERIFIED = "verified"  # an independent reader took them back and found the same content
    SEALED = "sealed"  # a manifest in the chain names it: it is archived
    DELETING = "deleting"  # its rows are about to leave the table, or just left it: look, before anything else
    DELETED = "deleted"  # its rows have left the table, but for those that a hold keeps
    SUPERSEDED = "superseded"  # a later revision is sealed


FOLLOWS: Mapping[State, frozenset[State]] = {
    State.PLANNED: frozenset({State.EXPORTED}),
    State.EXPORTED: frozenset({State.VERIFIED}),
    State.VERIFIED: frozenset({State.SEALED}),
    State.SEALED: frozenset({State.DELETING, State.SUPERSEDED}),
    State.DELETING: frozenset({State.DELETED, State.SEALED}),
    # Back to sealed: rows that were restored, or of which a hold kept some, may be deleted again.
    State.DELETED: frozenset({State.SEALED, State.SUPERSEDED}),
    State.SUPERSEDED: frozenset(),
}
UNFINISHED = (State.PLANNED, State.EXPORTED, State.VERIFIED)  # of a run that died; another begins the day anew
IN_FORCE = (State.SEALED, State.DELETING, State.DELETED)  # one revision of a chunk at most


@dataclass(frozen=True, slots=True)
class Digest:
    """A content: how many rows, and the sums of their fingerprints (`digest`); `fast` is 0 where nobody computed it."""

    rows: int = 0
    portable: int = 0
    fast: int = 0

    def __add__(self, other: Digest) -> Digest:
        return Digest(self.rows + other.rows, self.portable + other.portable, self.fast + other.fast)


@dataclass(frozen=True, slots=True)
class DataFile:
    """One immutable object of rows, of one tenant.

    Attributes:
        key: Below the archive's root; made of the tenant, the day or month, and the content's hash.
        sha256: Of its bytes, in hex.
        size: In bytes.
        rows: How many it holds.
        columns: What the table had when they were read, in order.
    """

    key: str
    sha256: str
    size: int
    rows: int
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Chunk:
    """One tenant's UTC day.

    Attributes:
        tenant: Whose; `source.NOBODY` where rows belong to nobody.
        day: Of which day.
        revision: That of the day at which it was archived; a later manifest of the day repeats it unchanged.
        rows: How many the archive holds of it.
        portable: The portable digest of those.
        live: What the table held of it when it was archived.
        earliest: The first moment of a row in the archive.
        latest: The last one.
        files: Keys of the objects that hold it; a monthly file holds other days of the tenant too.
    """

    tenant: UUID
    day: date
    revision: int
    rows: int
    portable: int
    live: Digest
    earliest: datetime
    latest: datetime
    files: tuple[str, ...]


class Cause(StrEnum):
    """Why something left the archive."""

    EXPIRED = "expired"  # the tenant's contract keeps it no longer
    OFFBOARDED = "offboarded"  # the tenant left, and all of it went
    ERASED = "erased"  # one person's rows, or those about one thing, because the law asks for it
    COMPACTED = "compacted"  # no row left: the same ones lie in fewer objects


@dataclass(frozen=True, slots=True)
class Gone:
    """What is not in the archive any more, or about to be removed.

    Attributes:
        cause: Why.
        actor: Who asked: a schedule, or a person.
        run: The run that did it.
        chunks: Tenants' days as they were before; what stands in place of one, its manifest says among its own.
        files: Objects to be removed, those of earlier revisions included.
    """

    cause: Cause
    actor: str
    run: UUID
    chunks: tuple[Chunk, ...]
    files: tuple[DataFile, ...]

    @property
    def size(self) -> int:
        """Bytes of its objects."""
        return sum(file.size for file in self.files)
