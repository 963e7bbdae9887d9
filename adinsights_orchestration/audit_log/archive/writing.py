"""Writing chunks to the store, in groups: planned, exported, taken back by the independent reader, verified.

Belongs here: that sequence, in which every step is committed to the ledger before the next begins. Does not belong
here: where chunks come from (`intake`) and sealing (`sealing`). Content decides an object's key, so a step that is done
again writes nothing twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

from adinsights_orchestration.audit_log.archive.encoding import Encoded
from adinsights_orchestration.audit_log.archive.intake import Ready
from adinsights_orchestration.audit_log.bookkeeping.ledger import ArchiveLedger, Reading
from adinsights_orchestration.audit_log.model import Chunk, DataFile, State
from adinsights_orchestration.audit_log.reading.proving import verify
from adinsights_orchestration.audit_log.reading.reader import ContentError
from adinsights_orchestration.audit_log.source import Source
from adinsights_orchestration.audit_log.store.contract import Store, create_same
from adinsights_orchestration.audit_log.store.errors import ObjectExistsError
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
            files = list(pool.map(partial(put, self.store), (encoded for ready in group for encoded in ready.objects)))
        renamed = {
            encoded.file.key: file.key
            for encoded, file in zip((each for ready in group for each in ready.objects), files, strict=True)
        }
        chunks = [replace(chunk, files=tuple(renamed.get(key, key) for key in chunk.files)) for chunk in chunks]
        self.ledger.advance(chunks, State.PLANNED, State.EXPORTED, self.clock())
        verify(self.source, self.store, chunks, files, self.at_once)
        self.ledger.advance(chunks, State.EXPORTED, State.VERIFIED, self.clock())
        for encoded in (each for ready in group for each in ready.objects):
            encoded.forget()
        return Written(tuple(chunks), tuple(files))


def put(store: Store, encoded: Encoded) -> DataFile:
    """Writes an object; where a damaged one lies under its key, which stays as evidence, under another.

    Raises:
        ContentError: Damaged ones lie under all of its keys.
    """
    file, stem = encoded.file, encoded.file.key.removesuffix(".parquet")
    for key in (file.key, *(f"{stem}.{number}.parquet" for number in range(1, _KEYS_TRIED))):
        try:
            create_same(store, key, encoded.content)
        except ObjectExistsError:
            continue
        return replace(file, key=key)
    raise ContentError("the store holds other bytes under every key of this content", place=file.key)
