"""From pieces of rows to chunks that are ready to be written: encoded, digested, and compared with what is archived.

Belongs here: gathering a chunk's pieces, bounded in memory, and what a chunk that is archived already turns into. Does
not belong here: writing (`writing`) and sealing (`sealing`). A chunk that is as it was archived costs no object. One
that has changed gets the table's rows anew, and beside them whatever the archive holds that the table has lost: a new
revision never forgets a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from uuid import UUID

import pyarrow as pa

from adinsights_orchestration.audit_log.archive.export import Piece, moment_of
from adinsights_orchestration.audit_log.archive.parquet import distinct, encode
from adinsights_orchestration.audit_log.bookkeeping import chain
from adinsights_orchestration.audit_log.bookkeeping.ledger import InForce
from adinsights_orchestration.audit_log.bookkeeping.manifest import hash_of
from adinsights_orchestration.audit_log.model import Chunk, DataFile, Digest
from adinsights_orchestration.audit_log.source import Column, Source

_NOTHING = Digest()


@dataclass(frozen=True, slots=True)
class Encoded:
    """One object to be written: its description and its bytes."""

    file: DataFile
    content: bytes


@dataclass(frozen=True, slots=True)
class Ready:
    """A chunk of which everything is known but whether the store has it.

    Attributes:
        chunk: What the manifest will say.
        objects: To be written for it.
        kept: Files of an earlier revision that it goes on naming.
    """

    chunk: Chunk
    objects: tuple[Encoded, ...]
    kept: tuple[DataFile, ...] = ()


@dataclass(slots=True)
class Gathering:
    """One tenant's day while its rows come in; what is full is encoded at once, so that memory holds no whole day."""

    source: Source
    columns: tuple[Column, ...]
    tenant: UUID
    day: date
    limit: int
    live: Digest = _NOTHING
    earliest: int = 0
    latest: int = 0
    objects: list[Encoded] = field(default_factory=list)
    _batches: list[pa.RecordBatch] = field(default_factory=list)
    _bytes: int = 0
    _rows: int = 0

    def add(self, piece: Piece) -> None:
        """Takes the next rows."""
        self.earliest = min(self.earliest, piece.earliest) if self.live.rows else piece.earliest
        self.latest = max(self.latest, piece.latest)
        self.live += piece.content
        self._batches.append(piece.rows)
        self._bytes += piece.rows.nbytes
        self._rows += piece.rows.num_rows
        if self._bytes >= self.limit:
            self.flush()

    def flush(self) -> None:
        """Encodes what has come in since the last time."""
        if not self._batches:
            return
        content = encode(self._batches, distinct(self.source, self.columns))
        sha256 = hash_of(content)
        key = chain.data_key(self.source.name, self.tenant, chain.day_period(self.day), sha256)
        self.objects.append(Encoded(DataFile(key, sha256, len(content), self._rows, self.columns), content))
        self._batches, self._bytes, self._rows = [], 0, 0

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
        self.flush()
        kept = tuple(encoded for each in lost for encoded in each.objects)
        earliest = min([moment_of(self.earliest), *(each.earliest for each in lost)])
        latest = max([moment_of(self.latest), *(each.latest for each in lost)])
        objects = (*self.objects, *kept)
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
