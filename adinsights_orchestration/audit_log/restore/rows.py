"""From an archived object to what a COPY of Postgres takes, with the object proven on the way.

Belongs here: fetching, and Postgres's text format for COPY. Does not belong here: choosing (`plan`) and
writing (`writing`). Every value is written as Postgres's own text for its type, which is how the archive keeps whatever
Arrow has no type for, so that no type needs a converter of its own. Columns are encoded whole, by Arrow, and not row by
row.
"""

from __future__ import annotations

import binascii
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from adinsights_orchestration.audit_log.model import DataFile
from adinsights_orchestration.audit_log.reading.decoding import decoded, of_day
from adinsights_orchestration.audit_log.reading.reader import ContentError, fetch
from adinsights_orchestration.audit_log.restore.plan import Part
from adinsights_orchestration.audit_log.source import Column, Kind, Source
from adinsights_orchestration.audit_log.store.contract import Store

_NULL = "\\N"
_READY_BYTES = 64 << 20  # decoded rows of one portion; as lines they are about as large
_ROWS_AT_ONCE = 8192
_BYTES_AT_ONCE = 32 << 20
_UUID_BYTES = 16
_INFINITY = {int(np.iinfo(np.int64).max): "infinity", int(np.iinfo(np.int64).min): "-infinity"}
# The backslash first: the others bring new ones.
_ESCAPED = ((b"\\", "\\", "\\\\"), (b"\t", "\t", "\\t"), (b"\n", "\n", "\\n"), (b"\r", "\r", "\\r"))


@dataclass(frozen=True, slots=True)
class Loaded:
    """A part that was taken from the store and is what was sealed; or why it is not.

    Attributes:
        part: Which.
        lines: By the columns of its files: what COPY takes. What is too much to be kept ready is made while it is read,
            and then may turn out to be unreadable (`ContentError`).
        problem: What is wrong with an object of it; nothing of such a part is written.
    """

    part: Part
    lines: Mapping[tuple[Column, ...], Sequence[Iterable[bytes]]]
    problem: str = ""


@dataclass(slots=True)
class _Room:
    """How much may be decoded before it is needed: zstd makes a little of a lot, and only decoding tells how much."""

    left: int
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def take(self, size: int) -> bool:
        with self._turn:
            self.left -= size
            return self.left >= 0


@dataclass(frozen=True, slots=True)
class _Fetched:
    """An object's bytes, which are those that were sealed; decoded already where there was room."""

    file: DataFile
    content: bytes
    table: pa.Table | None

    def rows(self) -> pa.Table:
        return self.table if self.table is not None else _rows(self.file, self.content)


@dataclass(frozen=True, slots=True)
class _Later:
    """Lines that are made each time that they are read."""

    source: Source
    day: date
    fetched: _Fetched

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from copy_lines(of_day(self.source, self.fetched.rows(), self.day), self.fetched.file.columns)
        except (pa.ArrowException, OverflowError) as error:
            problem = f"its values cannot be written ({type(error).__name__})"
            raise ContentError(problem, place=self.fetched.file.key) from None


def loaded(store: Store, source: Source, parts: Sequence[Part], pool: ThreadPoolExecutor) -> list[Loaded]:
    """Takes parts from the store, each object once, several at once.

    Raises:
        StoreError: The store does not serve us; an object that is missing or changed is its part's problem instead.
    """
    room = _Room(_READY_BYTES)
    files = list({file.key: file for part in parts for file in part.files}.values())
    objects = dict(
        zip((file.key for file in files), pool.map(lambda file: _fetch(store, file, room), files), strict=True)
    )
    return list(pool.map(lambda part: _load(source, part, objects), parts))


def copy_lines(rows: pa.Table, columns: Sequence[Column]) -> Iterator[bytes]:
    """The rows as lines of a COPY in text format, in pieces of bounded size."""
    for batch in rows.to_batches(max_chunksize=_ROWS_AT_ONCE):
        for piece in _bounded(batch):
            yield _lines(piece, columns)


def _fetch(store: Store, file: DataFile, room: _Room) -> _Fetched | ContentError:
    try:
        content = fetch(store, file)
        if not room.take(0):
            return _Fetched(file, content, None)
        table = _rows(file, content)
    except ContentError as error:
        return error
    return _Fetched(file, content, table if room.take(table.nbytes) else None)


def _rows(file: DataFile, content: bytes) -> pa.Table:
    table = decoded(file, content)
    wanted = [column.name for column in file.columns]
    if table.num_rows != file.rows or set(wanted) - set(table.column_names):
        raise ContentError("the object holds other rows or columns than were sealed", place=file.key)
    return table.select(wanted)


def _load(source: Source, part: Part, objects: Mapping[str, _Fetched | ContentError]) -> Loaded:
    lines: dict[tuple[Column, ...], list[Iterable[bytes]]] = {}
    for file in part.files:
        found = objects[file.key]
        if isinstance(found, ContentError):
            return Loaded(part, {}, str(found))
        later = _Later(source, part.chunk.day, found)
        try:
            lines.setdefault(file.columns, []).append(later if found.table is None else list(later))
        except ContentError as error:
            return Loaded(part, {}, str(error))
    return Loaded(part, lines)


def _bounded(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    if batch.num_rows > 1 and batch.nbytes > _BYTES_AT_ONCE:
        half = batch.num_rows // 2
        yield from _bounded(batch.slice(0, half))
        yield from _bounded(batch.slice(half))
    elif batch.num_rows:
        yield batch


def _lines(batch: pa.RecordBatch, columns: Sequence[Column]) -> bytes:
    fields = [_text(batch.column(column.name), column.kind) for column in columns]
    fields[-1] = pc.binary_join_element_wise(fields[-1], "", "\n")
    joined = pc.binary_join_element_wise(*fields, "\t") if len(fields) > 1 else fields[0]
    _, offsets, data = joined.buffers()
    ends = np.frombuffer(offsets, dtype=np.int32)
    return bytes(data)[ends[joined.offset] : ends[joined.offset + len(joined)]]


def _text(column: pa.Array, kind: Kind) -> pa.Array:
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    return _TEXTS.get(kind, _plain)(column).fill_null(_NULL)


def _plain(column: pa.Array) -> pa.Array:
    return column.cast(pa.string())


def _escaped(column: pa.Array) -> pa.Array:
    text = column.cast(pa.string())
    data = text.buffers()[2]
    content = bytes(data) if data is not None else b""
    for byte, found, replaced in _ESCAPED:
        if byte in content:
            text = pc.replace_substring(text, pattern=found, replacement=replaced)
    return text


def _uuid(column: pa.Array) -> pa.Array:
    if not pa.types.is_fixed_size_binary(column.type):
        return column.cast(pa.string())
    count, start = len(column), column.offset * _UUID_BYTES
    data = binascii.hexlify(memoryview(column.buffers()[1])[start : start + count * _UUID_BYTES])
    ends = np.arange(count + 1, dtype=np.int32) * (2 * _UUID_BYTES)
    digits = pa.Array.from_buffers(pa.string(), count, [None, pa.py_buffer(ends), pa.py_buffer(data)])
    return pc.if_else(column.is_valid(), digits, None) if column.null_count else digits


def _moment(column: pa.Array) -> pa.Array:
    text = column.cast(pa.timestamp("us")).cast(pa.string())  # the session that reads it stands in UTC
    numbers = column.cast(pa.int64())
    for number, name in _INFINITY.items():
        odd = pc.equal(numbers, number)
        if pc.any(odd).as_py():
            text = pc.if_else(odd, name, text)
    return text


_TEXTS: Mapping[Kind, Callable[[pa.Array], pa.Array]] = {
    Kind.TEXT: _escaped,
    Kind.OTHER: _escaped,
    Kind.UUID: _uuid,
    Kind.MOMENT: _moment,
}
