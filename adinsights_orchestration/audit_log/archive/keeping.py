"""Rows that the archive holds of a tenant's day and the table has lost, carried over into a new revision.

Belongs here: finding them by their key, and writing them as objects of their own. Does not belong here: why the table
lost them (they were deleted when their time had come, or vanished before it, which a check reports).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from adinsights_orchestration.audit_log.archive.export import moment_of
from adinsights_orchestration.audit_log.archive.intake import Encoded, Lost
from adinsights_orchestration.audit_log.archive.parquet import distinct, encode
from adinsights_orchestration.audit_log.bookkeeping import chain
from adinsights_orchestration.audit_log.bookkeeping.manifest import hash_of
from adinsights_orchestration.audit_log.model import DataFile, Digest
from adinsights_orchestration.audit_log.reading import reader
from adinsights_orchestration.audit_log.source import Column, Source
from adinsights_orchestration.audit_log.store.contract import Store
from adinsights_orchestration.audit_log.table.statements import midnight

Key = tuple[object, ...]
_MICROSECONDS = 1_000_000
_DAY = 86_400 * _MICROSECONDS


def lost_rows(
    store: Store,
    source: Source,
    at: tuple[UUID, date],
    archived: Sequence[DataFile],
    live: Sequence[Encoded],
) -> tuple[Lost, ...]:
    """What the archived files hold of a tenant's day whose key is in none of the live rows; by schema.

    Args:
        store: Where the archived files are.
        source: The table.
        at: Which tenant's day.
        archived: The files of the revision in force.
        live: The table's rows, just encoded.
    """
    present = {key for encoded in live for key in _keys(source, pq.read_table(pa.BufferReader(encoded.content)))}
    found: list[Lost] = []
    with reader.fetched(store, archived, 1) as paths:
        for columns in dict.fromkeys(file.columns for file in archived):
            same = [paths[file.key] for file in archived if file.columns == columns]
            found += _lost(source, at, columns, same, present)
    return tuple(found)


def _lost(
    source: Source,
    at: tuple[UUID, date],
    columns: tuple[Column, ...],
    paths: list[Path],
    present: set[Key],
) -> list[Lost]:
    table = _of_day(source, at[1], pa.concat_tables([pq.read_table(path) for path in paths]))
    gone = pa.array([key not in present for key in _keys(source, table)], pa.bool_())
    rows = table.filter(gone)
    if not rows.num_rows:
        return []
    content = encode(rows.to_batches(), distinct(source, columns))
    sha256 = hash_of(content)
    key = chain.data_key(source.name, at[0], chain.day_period(at[1]), sha256)
    times = rows.column(source.time).cast(pa.int64())
    return [
        Lost(
            (Encoded(DataFile(key, sha256, len(content), rows.num_rows, columns), content),),
            _digest(source, columns, content),
            moment_of(pc.min(times).as_py()),
            moment_of(pc.max(times).as_py()),
        )
    ]


def _digest(source: Source, columns: Sequence[Column], content: bytes) -> Digest:
    """What is read back from the store is held against this, and both against the revision that it comes from."""
    held = reader.contents_of_bytes(source, columns, content)
    return Digest(sum(each.rows for each in held.values()), sum(each.portable for each in held.values()))


def _of_day(source: Source, day: date, table: pa.Table) -> pa.Table:
    start = int(midnight(day).timestamp()) * _MICROSECONDS
    times = table.column(source.time).cast(pa.int64())
    return table.filter(pc.and_(pc.greater_equal(times, start), pc.less(times, start + _DAY)))


def _keys(source: Source, table: pa.Table) -> list[Key]:
    columns = [_plain(table.column(name)) for name in source.keys]
    return list(zip(*columns, strict=True))


def _plain(column: pa.ChunkedArray) -> list[object]:
    if isinstance(column.type, pa.ExtensionType):
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], column.type.storage_type)
    values: list[object] = column.to_pylist()
    return values
