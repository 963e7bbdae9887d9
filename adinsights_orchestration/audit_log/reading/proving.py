"""Holding objects of the store against the chunks that they must hold.

Belongs here: that comparison, for whoever has just written objects or proves old ones. Does not belong here: taking
objects back (`reader`), the chain that says which ones there must be (`verify`).
"""

from __future__ import annotations

from collections.abc import Sequence

from adinsights_orchestration.audit_log.model import Chunk, DataFile
from adinsights_orchestration.audit_log.reading import reader
from adinsights_orchestration.audit_log.reading.reader import ContentError
from adinsights_orchestration.audit_log.source import Source
from adinsights_orchestration.audit_log.store.contract import Store


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
            )
