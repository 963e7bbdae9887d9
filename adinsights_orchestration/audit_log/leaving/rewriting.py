"""The same rows in other objects, some of them left out: what compaction and erasure are made of.

Belongs here: leaving rows out of objects, encoding the others anew, and telling the content of both. Does not
belong here: which objects, and why (`compaction`, `erasure`, `offboarding`), or proving the outcome
(`reading.proving`). An object may hold rows that are in force no longer, because a day of its month was archived anew
since: those are never taken along.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from adinsights_orchestration.audit_log.archive.encoding import Encoded
from adinsights_orchestration.audit_log.archive.export import moment_of
from adinsights_orchestration.audit_log.archive.parquet import distinct, encode
from adinsights_orchestration.audit_log.bookkeeping import chain
from adinsights_orchestration.audit_log.bookkeeping.manifest import hash_of
from adinsights_orchestration.audit_log.bookkeeping.standing import Standing
from adinsights_orchestration.audit_log.model import At, DataFile, Digest
from adinsights_orchestration.audit_log.reading import reader
from adinsights_orchestration.audit_log.reading.decoding import decoded, of_day
from adinsights_orchestration.audit_log.source import Column, Source
from adinsights_orchestration.audit_log.store.contract import Store

Doomed = Callable[[pa.Table], Any]


@dataclass(frozen=True, slots=True)
class Input:
    """An object to be written anew.

    Attributes:
        file: The object, proven by its hash when it is read.
        days: The days of which its rows are in force.
    """

    file: DataFile
    days: frozenset[date]


@dataclass(slots=True)
class Rewrite:
    """What became of some objects of one tenant that have the same columns.

    Attributes:
        encoded: The object that stands in their place; None where nothing is left of them.
        kept: What it holds, by day.
        left_out: What was left out on purpose, by day.
        bounds: The first and the last moment of what it holds, by day.
    """

    encoded: Encoded | None = None
    kept: dict[date, Digest] = field(default_factory=dict)
    left_out: dict[date, Digest] = field(default_factory=dict)
    bounds: dict[date, tuple[datetime, datetime]] = field(default_factory=dict)


def inputs_of(standing: Standing, tenant: UUID, keys: Collection[str], users: Mapping[str, set[At]]) -> list[Input]:
    """These objects of a tenant, each with the days that it is in force for; the oldest first.

    Args:
        standing: What the chain says.
        tenant: Whose.
        keys: The objects.
        users: `standing.users()`, which is of the whole archive: made once for all tenants.
    """
    days = {key: frozenset(day for whose, day in users.get(key, set()) if whose == tenant) for key in keys}
    return [Input(standing.files[key], days[key]) for key in sorted(keys, key=lambda key: (chain.day_of_key(key), key))]


def rewrite(
    store: Store, source: Source, tenant: UUID, inputs: Sequence[Input], doomed: Doomed | None = None
) -> Rewrite:
    """Reads objects of the same columns, and encodes what is in force of them anew.

    Args:
        store: Where they are.
        source: The table.
        tenant: Whose they are.
        inputs: The objects.
        doomed: Tells which rows of a table are left out; None: none is.

    Raises:
        ContentError: An object is missing or changed.
    """
    (columns,) = {each.file.columns for each in inputs}
    kept, left_out = list[pa.Table](), list[pa.Table]()
    for each in inputs:
        rows = decoded(each.file, reader.fetch(store, each.file))
        rows = pa.concat_tables([rows.slice(0, 0), *(of_day(source, rows, day) for day in sorted(each.days))])
        chosen = doomed(rows) if doomed is not None else pa.array([False] * rows.num_rows, pa.bool_())
        kept.append(rows.filter(pc.invert(chosen)))
        left_out.append(rows.filter(chosen))
    found = Rewrite()
    stays = pa.concat_tables(kept)
    days = sorted({day for each in inputs for day in each.days})
    if stays.num_rows:
        period = chain.day_period(days[0]) if len(days) == 1 else chain.month_period(days[0])
        found.encoded = _encoded(source, tenant, columns, period, stays)
        found.kept = _contents(source, columns, found.encoded.content)
        found.bounds = {day: _bounds(source, of_day(source, stays, day)) for day in found.kept}
    if any(table.num_rows for table in left_out):
        found.left_out = _contents(source, columns, encode(pa.concat_tables(left_out).to_batches()))
    return found


def _encoded(source: Source, tenant: UUID, columns: tuple[Column, ...], period: str, rows: pa.Table) -> Encoded:
    content = encode(rows.combine_chunks().to_batches(), distinct(source, columns))
    sha256 = hash_of(content)
    key = chain.data_key(source.name, tenant, period, sha256)
    return Encoded(DataFile(key, sha256, len(content), rows.num_rows, columns), content)


def _contents(source: Source, columns: Sequence[Column], content: bytes) -> dict[date, Digest]:
    found = reader.contents_of_bytes(source, columns, content)
    return {day: Digest(held.rows, held.portable) for (_, day), held in found.items()}


def _bounds(source: Source, rows: pa.Table) -> tuple[datetime, datetime]:
    limits = pc.min_max(rows.column(source.time).cast(pa.int64())).as_py()
    return moment_of(limits["min"]), moment_of(limits["max"])
