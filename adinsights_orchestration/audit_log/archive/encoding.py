"""Rows of one tenant's day becoming objects, piece by piece, of which memory holds no more than one.

Belongs here: filling objects up to their size, and where the full ones wait. Does not belong here: the format
(`parquet`), writing to the store (`writing`). Nothing of a day may be written before all of it has been read: only then
is it known whether it is archived already, and only what the ledger has planned goes into the store. Small days wait in
memory; of a day that is larger than one object, the full ones wait in a private folder of the machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from itertools import count
from pathlib import Path
from uuid import UUID

import pyarrow as pa

from adinsights_orchestration.audit_log.archive.parquet import distinct, encode
from adinsights_orchestration.audit_log.bookkeeping import chain
from adinsights_orchestration.audit_log.bookkeeping.manifest import hash_of
from adinsights_orchestration.audit_log.model import DataFile
from adinsights_orchestration.audit_log.source import Column, Source
from adinsights_orchestration.errors import AdinsightsError


class WaitingRoomError(AdinsightsError):
    """There is no room on this machine for a day that is larger than one object; nothing of it was written."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """One object to be written.

    Attributes:
        file: Its description.
        waits: Its bytes, or the file that they wait in.
    """

    file: DataFile
    waits: bytes | Path

    @property
    def content(self) -> bytes:
        """Its bytes; whoever has written them reads them back from the store, and holds that against the hash."""
        return self.waits if isinstance(self.waits, bytes) else self.waits.read_bytes()

    def forget(self) -> None:
        """Nobody needs it any more."""
        if isinstance(self.waits, Path):
            self.waits.unlink(missing_ok=True)


class WaitingRoom:
    """Where full objects of large days wait.

    Args:
        folder: A private one, of which somebody else takes care.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = count()

    def take(self, content: bytes) -> Path:
        """Puts bytes aside.

        Raises:
            WaitingRoomError: The disk is full, or not ours to write to.
        """
        path = self._folder / f"waiting-{next(self._numbers)}.parquet"
        try:
            path.write_bytes(content)
        except OSError as error:
            raise WaitingRoomError(
                f"objects of a large day cannot wait here ({error.strerror})",
                place=str(self._folder),
                next_step="Free some room there, or name a larger disk (TMPDIR): it takes the day's compressed size.",
            ) from None
        return path


@dataclass(slots=True)
class Filling:
    """Objects of one tenant's day while its rows come in.

    Attributes:
        source: The table.
        columns: Its columns.
        tenant: Whose rows.
        day: Of which day.
        limit: An object is full with so many bytes of rows, before compression.
        room: Where full ones wait.
        objects: Those that are encoded.
    """

    source: Source
    columns: tuple[Column, ...]
    tenant: UUID
    day: date
    limit: int
    room: WaitingRoom
    objects: list[Encoded] = field(default_factory=list)
    _batches: list[pa.RecordBatch] = field(default_factory=list)
    _bytes: int = 0
    _rows: int = 0

    def add(self, rows: pa.RecordBatch) -> None:
        """Takes the next rows; what is full by them waits on the disk from now on."""
        self._batches.append(rows)
        self._bytes += rows.nbytes
        self._rows += rows.num_rows
        if self._bytes >= self.limit:
            self._encode(full=True)

    def flush(self) -> None:
        """Encodes what has come in since the last object was full."""
        if self._batches:
            self._encode(full=False)

    def forget(self) -> None:
        """Nobody needs any of it."""
        self._batches = []
        for encoded in self.objects:
            encoded.forget()

    def _encode(self, *, full: bool) -> None:
        content = encode(self._batches, distinct(self.source, self.columns))
        sha256 = hash_of(content)
        key = chain.data_key(self.source.name, self.tenant, chain.day_period(self.day), sha256)
        file = DataFile(key, sha256, len(content), self._rows, self.columns)
        self.objects.append(Encoded(file, self.room.take(content) if full else content))
        self._batches, self._bytes, self._rows = [], 0, 0
