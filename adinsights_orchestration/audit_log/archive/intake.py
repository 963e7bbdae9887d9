"""From pieces of rows to chunks that are ready to be written: encoded, digested, and compared with what is archived.

Belongs here: gathering a chunk's pieces, and what a chunk that is archived already turns into. Does not belong here:
encoding in bounded memory (`encoding`), writing (`writing`) and sealing (`sealing`). A chunk that is as it was archived
costs no object. One that has changed gets the table's rows anew, and beside them whatever the archive holds that the
table has lost: a new revision never forgets a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from uuid import UUID

from adinsights_orchestration.audit_log.archive.encoding import Encoded, Filling
from adinsights_orchestration.audit_log.archive.export import Piece, moment_of
from adinsights_orchestration.audit_log.bookkeeping.ledger import InForce
from adinsights_orchestration.audit_log.model import Chunk, Digest

_NOTHING = Digest()


@dataclass(frozen=True, slots=True)
class Ready:
    """A chunk of which everything is known but whether the store has it.

    Attributes:
        chunk: What the manifest will say.
        objects: To be written for it.
    """

    chunk: Chunk
    objects: tuple[Encoded, ...]


@dataclass(slots=True)
class Gathering:
    """One tenant's day while its rows come in.

    Attributes:
        filling: Its objects.
        live: Its content so far.
        earliest: The first moment, in microseconds since 1970.
        latest: The last one.
    """

    filling: Filling
    live: Digest = _NOTHING
    earliest: int = 0
    latest: int = 0

    @property
    def tenant(self) -> UUID:
        """Whose."""
        return self.filling.tenant

    @property
    def day(self) -> date:
        """Of which day."""
        return self.filling.day

    def add(self, piece: Piece) -> None:
        """Takes the next rows."""
        self.earliest = min(self.earliest, piece.earliest) if self.live.rows else piece.earliest
        self.latest = max(self.latest, piece.latest)
        self.live += piece.content
        self.filling.add(piece.rows)

    def is_as(self, known: InForce | None, same_server: bool) -> bool:
        """Whether the table still holds exactly what is expected there."""
        if known is None or known.left.rows != self.live.rows:
            return False
        # After a deletion only the fast digest of what was left is known; on another server only the portable one.
        if same_server:
            return known.left.fast == self.live.fast
        return known.left.portable == self.live.portable

    def ready(self, revision: int, lost: tuple[Lost, ...] = ()) -> Ready:
        """The chunk, with what the archive keeps that the table has lost."""
        self.filling.flush()
        kept = tuple(encoded for each in lost for encoded in each.objects)
        earliest = min([moment_of(self.earliest), *(each.earliest for each in lost)])
        latest = max([moment_of(self.latest), *(each.latest for each in lost)])
        objects = (*self.filling.objects, *kept)
        chunk = Chunk(
            tenant=self.tenant,
            day=self.day,
            revision=revision,
            rows=self.live.rows + sum(each.content.rows for each in lost),
            portable=self.live.portable + sum(each.content.portable for each in lost),
            live=self.live,
            earliest=earliest,
            latest=latest,
            files=tuple(encoded.file.key for encoded in objects),
        )
        return Ready(chunk, objects)


@dataclass(frozen=True, slots=True)
class Lost:
    """Rows of one schema that the archive holds and the table does not any more."""

    objects: tuple[Encoded, ...]
    content: Digest
    earliest: datetime
    latest: datetime


def gathered(
    pieces: Iterator[Piece], begin: Callable[[UUID, date], Gathering], odd: Callable[[Piece], None]
) -> Iterator[Gathering]:
    """Chunks that are complete, in the order in which they come; rows of no day go to `odd`."""
    current: Gathering | None = None
    for piece in pieces:
        if piece.day is None:
            odd(piece)
            continue
        if current is None or (current.tenant, current.day) != (piece.tenant, piece.day):
            if current is not None:
                yield current
            current = begin(piece.tenant, piece.day)
        current.add(piece)
    if current is not None:
        yield current
