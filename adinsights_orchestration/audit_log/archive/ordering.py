"""Rows in order without a sort in the server: an append-only table holds its days nearly in order already.

Belongs here: when that can be done in bounded memory, and doing it. Does not belong here: the statements and cutting
(`export`). A first look, in the same snapshot as the scan, tells how many rows each day has and between which pages
they lie; from that follows how many rows would wait for others at worst. Where those are few, the table is read as it
lies, and a day is put in order here as soon as the last of its rows has come. Where they are many (a table in no order,
a restored row at its end), where the range is short, or where row level security binds our role, the server sorts. Its
sort of whole rows costs it more than reading them does, and spills to its disk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adinsights_orchestration.audit_log.archive.export import (
    EPOCH,
    Extent,
    Piece,
    Scan,
    batches,
    cut,
    days_of,
    extents,
    pieces,
)
from adinsights_orchestration.audit_log.model import Digest

_FEW_DAYS = 5  # the server sorts so little in memory, and a look at the whole table first would cost more
_ROOM = 48 << 20  # for rows that wait, by what is guessed before and by what is seen
_PAGE = 8192
_MANY_RUNS = 64


def in_order(connection: Any, scan: Scan, room: int = _ROOM) -> Iterator[Piece]:
    """The pieces of a scan in the order of days and tenants, whoever sorts; pieces of no day come at any time."""
    if scan.tenants is not None or few_days(scan.first, scan.last):
        yield from pieces(connection, scan)
        return
    lies = extents(connection, scan)
    if most_waiting(lies) > room:
        yield from pieces(connection, scan)
        return
    waiting = _Waiting(scan, lies, room)
    for batch in batches(connection, replace(scan, ordered=False)):
        yield from waiting.add(batch)
    if waiting.overflown:  # rows are much wider than the pages told: what has not come yet, the server sorts
        for piece in pieces(connection, replace(scan, first=waiting.next)):
            if piece.day is not None:
                yield piece
    if waiting.odd is not None:
        yield waiting.odd


def few_days(first: date, last: date) -> bool:
    """Whether a range is so short that nothing is gained by looking before reading."""
    return (last - first).days < _FEW_DAYS


def most_waiting(lies: dict[date, Extent]) -> int:
    """How many bytes of rows wait at most for earlier ones if the table is read as it lies; a guess, by its pages."""
    rows = sum(extent.rows for extent in lies.values())
    if not rows:
        return 0
    first, last = min(each.first for each in lies.values()), max(each.last for each in lies.values())
    row_bytes = (last - first + 1) * _PAGE / rows
    changes: list[tuple[int, int]] = []
    goes = -1  # days leave in order: none before the one before it
    for _, extent in sorted(lies.items()):
        goes = max(goes, extent.last)
        changes += [(extent.first, extent.rows), (goes + 1, -extent.rows)]
    waits = most = 0
    for _, change in sorted(changes):
        waits += change
        most = max(most, waits)
    return int(most * row_bytes)


@dataclass(slots=True)
class _Waiting:
    """Rows that have come and cannot go on yet.

    Attributes:
        scan: What is read.
        lies: How many rows of each day come.
        room: Bytes that may wait.
        next: The first day that has not gone on.
        overflown: More came than there is room for; nothing is kept any more.
        odd: All rows of no day, as one piece that has forgotten what they say.
    """

    scan: Scan
    lies: dict[date, Extent]
    room: int
    next: date = field(init=False)
    overflown: bool = False
    odd: Piece | None = None
    _parts: dict[date, list[pa.RecordBatch]] = field(default_factory=dict)
    _rows: dict[date, int] = field(default_factory=dict)
    _bytes: int = 0

    def __post_init__(self) -> None:
        self.next = self.scan.first

    def add(self, batch: pa.RecordBatch) -> Iterator[Piece]:
        """Takes rows as they come; returns the days that are complete by them."""
        for day, part in _by_day(self.scan, batch):
            if day is None:
                self._forget(part)
            elif not self.overflown:
                self._keep(day, part)
        while not self.overflown and self.next <= self.scan.last:
            wanted = self.lies[self.next].rows if self.next in self.lies else 0
            if self._rows.get(self.next, 0) != wanted:
                break
            if wanted:
                yield from self._release(self.next)
            self.next += timedelta(days=1)
        if self._bytes > self.room:
            self.overflown = True
            self._parts.clear()

    def _keep(self, day: date, part: pa.RecordBatch) -> None:
        self._parts.setdefault(day, []).append(part)
        self._rows[day] = self._rows.get(day, 0) + part.num_rows
        self._bytes += part.nbytes

    def _release(self, day: date) -> Iterator[Piece]:
        parts = self._parts.pop(day)
        self._bytes -= sum(part.nbytes for part in parts)
        yield from cut(self.scan, _sorted(self.scan, pa.concat_batches(parts)))

    def _forget(self, part: pa.RecordBatch) -> None:
        for piece in cut(self.scan, part):
            content = piece.content + (self.odd.content if self.odd is not None else Digest())
            nothing = pa.RecordBatch.from_pylist([], schema=piece.rows.schema)
            self.odd = replace(piece, rows=nothing, content=content)


def _by_day(scan: Scan, batch: pa.RecordBatch) -> Iterator[tuple[date | None, pa.RecordBatch]]:
    days = days_of(scan, batch)
    starts = _starts(days)
    if len(starts) > _MANY_RUNS:
        order = np.argsort(days, kind="stable")
        batch, days = batch.take(pa.array(order)), days[order]
        starts = _starts(days)
    for start, end in zip(starts, (*starts[1:], len(days)), strict=True):
        part = batch.slice(start, end - start)
        if 2 * len(part) < len(batch):
            part = part.take(pa.array(range(len(part))))  # a slice would keep all of the batch in memory
        day = int(days[start])
        yield (None if day < 0 else date.fromordinal(EPOCH.toordinal() + day)), part


def _starts(days: Any) -> list[int]:
    return [0, *(np.nonzero(days[1:] != days[:-1])[0] + 1).tolist()] if len(days) else []


def _sorted(scan: Scan, batch: pa.RecordBatch) -> pa.RecordBatch:
    names = [*([scan.source.tenant] if scan.source.tenant else []), scan.source.time, *scan.source.keys]
    keys = {name: _storage(batch.column(name)) for name in names}
    order = pc.sort_indices(pa.record_batch(keys), sort_keys=[(name, "ascending") for name in keys])
    return batch.take(order)


def _storage(column: pa.Array) -> pa.Array:
    return column.storage if isinstance(column, pa.ExtensionArray) else column
