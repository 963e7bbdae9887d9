"""The same rows in other objects, some of them left out: what compaction and erasure are made of.

Belongs here: leaving rows out of objects, encoding the others anew, and telling the content of both. Does not
belong here: which objects, and why (`compaction`, `erasure`, `offboarding`), or proving the outcome
(`reading.proving`). An object may hold rows that are in force no longer, because a day of its month was archived anew
since: what is left of it keeps those too, but for what somebody is handed.
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
        encoded: The object that stands in their place; None where nothing in force is left of them.
        kept: What it holds that is in force, by day.
        left_out: What of that was left out on purpose, by day.
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


def rewrite(store: Store, source: Source, tenant: UUID, inputs: Sequence[Input]) -> Rewrite:
    """Reads objects of the same columns, and encodes what is in force of them anew.

    Args:
        store: Where they are.
        source: The table.
        tenant: Whose they are.
        inputs: The objects.

    Raises:
        ContentError: An object is missing or changed.
    """
    (columns,) = {each.file.columns for each in inputs}
    rows = [_in_force(source, each, decoded(each.file, reader.fetch(store, each.file))) for each in inputs]
    days = frozenset[date]().union(*(each.days for each in inputs))
    return _anew(source, tenant, columns, pa.concat_tables(rows), days)


def leave_out(store: Store, source: Source, tenant: UUID, each: Input, doomed: Doomed) -> Rewrite:
    """Reads an object, and encodes it anew without some rows.

    What it holds of earlier revisions stays with it, unless nothing else of it is left: no manifest would name it.

    Args:
        store: Where it is.
        source: The table.
        tenant: Whose it is.
        each: The object.
        doomed: Tells which rows of a table are left out.

    Raises:
        ContentError: The object is missing or changed.
    """
    rows = decoded(each.file, reader.fetch(store, each.file))
    chosen = doomed(rows)
    left_out = _in_force(source, each, rows.filter(chosen))
    found = _anew(source, tenant, each.file.columns, rows.filter(pc.invert(chosen)), each.days)
    if left_out.num_rows:
        found.left_out = _contents(source, each.file.columns, encode(left_out.to_batches()))
    return found


def _in_force(source: Source, each: Input, rows: pa.Table) -> pa.Table:
    return pa.concat_tables([rows.slice(0, 0), *(of_day(source, rows, day) for day in sorted(each.days))])


def _anew(
    source: Source, tenant: UUID, columns: tuple[Column, ...], rows: pa.Table, in_force: Collection[date]
) -> Rewrite:
    """One object of these rows, if some of them are of the days that are in force."""
    if not any(of_day(source, rows, day).num_rows for day in in_force):
        return Rewrite()
    first, last = (moment.date() for moment in _bounds(source, rows))
    period = chain.day_period(first) if first == last else chain.month_period(first)
    encoded = _encoded(source, tenant, columns, period, rows)
    contents = _contents(source, columns, encoded.content)
    kept = {day: content for day, content in contents.items() if day in in_force}
    bounds = {day: _bounds(source, of_day(source, rows, day)) for day in kept}
    return Rewrite(encoded, kept, {}, bounds)


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
