"""Writing chunks to the store, in groups: planned, exported, taken back by the independent reader, verified.

Belongs here: that sequence, in which every step is committed to the ledger before the next begins. Does not belong
here: where chunks come from (`intake`) and sealing (`archive`). Content decides an object's key, so a step that is done
again writes nothing twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from adinsights_orchestration.audit_log import reader
from adinsights_orchestration.audit_log.intake import Encoded, Ready
from adinsights_orchestration.audit_log.ledger import ArchiveLedger, Reading
from adinsights_orchestration.audit_log.model import Chunk, DataFile, State
from adinsights_orchestration.audit_log.reader import ContentError
from adinsights_orchestration.audit_log.source import Source
from adinsights_orchestration.audit_log.store import Store, create_same
from adinsights_orchestration.audit_log.store_errors import ObjectExistsError
from adinsights_orchestration.clock import Clock

_KEYS_TRIED = 4


@dataclass(frozen=True, slots=True)
class Written:
    """Chunks that the store holds, verified, with their files."""

    chunks: tuple[Chunk, ...]
    files: tuple[DataFile, ...]


@dataclass(frozen=True, slots=True)
class Writer:
    """Writes groups of chunks.

    Attributes:
        source: The table.
        store: Where objects go.
        ledger: Where the steps are committed.
        reading: How the rows were read.
        clock: The moment of each step.
        at_once: Objects that are written or read at once.
    """

    source: Source
    store: Store
    ledger: ArchiveLedger
    reading: Reading
    clock: Clock
    at_once: int

    def write(self, group: Sequence[Ready]) -> Written:
        """Brings a group into the store and proves it.

        Raises:
            StoreError: The store failed; what is in it stays, and the next run finds it.
            ContentError: The store gives back something else than was written.
        """
        chunks = [ready.chunk for ready in group]
        self.ledger.plan(chunks, self.reading, self.clock())
        with ThreadPoolExecutor(self.at_once) as pool:
            files = list(pool.map(self._put, (encoded for ready in group for encoded in ready.objects)))
        renamed = {
            encoded.file.key: file.key
            for encoded, file in zip((each for ready in group for each in ready.objects), files, strict=True)
        }
        chunks = [replace(chunk, files=tuple(renamed.get(key, key) for key in chunk.files)) for chunk in chunks]
        self.ledger.advance(chunks, State.PLANNED, State.EXPORTED, self.clock())
        verify(self.source, self.store, chunks, files, self.at_once)
        self.ledger.advance(chunks, State.EXPORTED, State.VERIFIED, self.clock())
        return Written(tuple(chunks), tuple(files))

    def _put(self, encoded: Encoded) -> DataFile:
        file = encoded.file
        stem = file.key.removesuffix(".parquet")
        for number in range(1, _KEYS_TRIED):
            try:
                create_same(self.store, file.key, encoded.content)
            except ObjectExistsError:
                # Something damaged an object of this content; it stays as evidence, and the content gets another key.
                file = replace(file, key=f"{stem}.{number}.parquet")
            else:
                return file
        raise ContentError("the store holds other bytes under every key of this content", place=file.key)


def verify(source: Source, store: Store, chunks: Sequence[Chunk], files: Sequence[DataFile], at_once: int) -> None:
    """Takes the files back from the store and holds them against the chunks.

    Args:
        source: The table.
        store: Where the files are.
        chunks: What they must hold: a chunk's files, all of it and no other row of its tenant's day.
        files: All files that the chunks name.
        at_once: How many are read at once.

    Raises:
        ContentError: A file is missing, changed, or holds something else.
    """
    found = reader.contents(store, source, files, at_once)
    for file in files:
        rows = sum(held.rows for held in found.get(file.key, {}).values())
        if rows != file.rows:
            raise ContentError(f"the object holds {rows} rows, not {file.rows}", place=file.key)
    for chunk in chunks:
        parts = [held for key in chunk.files if (held := found.get(key, {}).get((chunk.tenant, chunk.day)))]
        rows, portable = sum(part.rows for part in parts), sum(part.portable for part in parts)
        if (rows, portable) != (chunk.rows, chunk.portable):
            problem = f"{rows} rows instead of {chunk.rows}" if rows != chunk.rows else "rows of another content"
            raise ContentError(
                f"the archive holds {problem} of tenant {chunk.tenant} on {chunk.day}",
                place=chunk.files[0] if chunk.files else "",
                next_step="docs/runbook.md says what to do: an archived day does not verify.",
            )
