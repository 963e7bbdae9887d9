"""Reading a table for the archive: one scan over any range of days, as a stream of Arrow batches.

Belongs here: the scan's SQL, the stream, and cutting it into pieces of one tenant's day each. Does not belong here:
who puts rows in order (`ordering`), what becomes of a piece (`sealing`). The server computes both fingerprints of a row
in the statement that reads it, so rows and digests are of one snapshot and one scan. Rows whose time is null, in the
future or before the first day come along in the same scan, to be counted and not archived.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
from psycopg import sql

from adinsights_orchestration.audit_log import digest
from adinsights_orchestration.audit_log.model import Digest
from adinsights_orchestration.audit_log.source import NOBODY, Column, Source, SourceError
from adinsights_orchestration.audit_log.table.statements import midnight
from adinsights_orchestration.backend.database import TENANT_SETTING

_PORTABLE, _FAST = "adinsights_portable", "adinsights_fast"
_DAY_MICROSECONDS = 86_400_000_000
_BATCH_BYTES = 4 << 20
EPOCH = date(1970, 1, 1)
_LOCK_TIMEOUT = "10s"
_SORT_MEMORY = "64MB"


@dataclass(frozen=True, slots=True)
class Scan:
    """What is read.

    Attributes:
        source: The table.
        columns: All of its columns, in its order.
        first: The first day.
        last: The last day, included.
        future: Rows from this moment on are from the future.
        oldest: Rows before this day are older than the log can be.
        tenants: Only these; None: everybody's rows, whoever they are.
        ordered: In the order of days, tenants, moments and keys.
        by_tenant: Through an index on tenant and time, for a few days of many.
    """

    source: Source
    columns: tuple[Column, ...]
    first: date
    last: date
    future: datetime
    oldest: date
    tenants: tuple[UUID, ...] | None = None
    ordered: bool = True
    by_tenant: bool = False

    def statement(self) -> str:
        """The statement, complete: a COPY takes no parameters."""
        table = sql.Identifier(*self.source.schema_and_table)
        wanted = [
            sql.SQL("{} as {}").format(self._wanted(column), sql.Identifier(column.name)) for column in self.columns
        ]
        wanted.append(sql.SQL("{} as {}").format(digest.portable(self.columns), sql.Identifier(_PORTABLE)))
        wanted.append(sql.SQL("{} as {}").format(digest.fast(self.columns), sql.Identifier(_FAST)))
        query = sql.SQL("select {} from {} t where {}{}").format(
            sql.SQL(", ").join(wanted), table, self._where(), self._order()
        )
        return query.as_string(None)

    def extents(self) -> str:
        """A statement that returns days, each with its rows and the first and last page that hold some."""
        query = sql.SQL(
            "select {0}::date as day, count(*) as rows, (min(t.ctid)::text::point)[0]::bigint as first,"
            " (max(t.ctid)::text::point)[0]::bigint as last from {1} t where {2} group by 1"
        ).format(
            sql.Identifier("t", self.source.time), sql.Identifier(*self.source.schema_and_table), self._where(odd=False)
        )
        return query.as_string(None)

    def _wanted(self, column: Column) -> sql.Composable:
        if column.name != self.source.time:
            return digest.as_archived(column)
        # Infinity is no moment; such a row is in no day.
        return sql.SQL("case when isfinite({0}) then {0} end").format(sql.Identifier("t", column.name))

    def _where(self, *, odd: bool = True) -> sql.Composable:
        time = sql.Identifier("t", self.source.time)
        within = sql.SQL("{0} >= {1} and {0} < {2}").format(
            time, sql.Literal(midnight(self.first)), sql.Literal(midnight(self.last + timedelta(days=1)))
        )
        no_day = sql.SQL("{0} is null or {0} >= {1} or {0} < {2}").format(
            time, sql.Literal(self.future), sql.Literal(midnight(self.oldest))
        )
        condition = sql.SQL("({} or {})").format(within, no_day) if odd else sql.SQL("({})").format(within)
        if self.tenants is not None and self.source.tenant:
            whose = sql.SQL("{} = any({}::uuid[])").format(
                sql.Identifier("t", self.source.tenant), sql.Literal([str(tenant) for tenant in self.tenants])
            )
            return sql.SQL("{} and {}").format(whose, condition)
        if self.by_tenant and self.source.tenant:
            return sql.SQL("{} = any(array({})) and {}").format(
                sql.Identifier("t", self.source.tenant), self._every_tenant(), condition
            )
        return condition

    def _every_tenant(self) -> sql.Composed:
        """Every tenant of whom the table has rows, one look into the index for each, whoever else knows of them."""
        first = sql.SQL("(select a.{0} from {1} a where a.{0} is not null order by a.{0} limit 1)")
        further = sql.SQL("(select a.{0} from {1} a where a.{0} > whose.id order by a.{0} limit 1)")
        return sql.SQL(
            "with recursive whose (id) as (select {} union all select {} from whose where whose.id is not null)"
            " select id from whose where id is not null"
        ).format(
            *(
                each.format(sql.Identifier(self.source.tenant or ""), sql.Identifier(*self.source.schema_and_table))
                for each in (first, further)
            )
        )

    def _order(self) -> sql.Composable:
        if not self.ordered:
            return sql.SQL("")
        time = sql.Identifier("t", self.source.time)
        by: list[sql.Composable] = [sql.SQL("{}::date").format(time)]
        if self.source.tenant:
            by.append(sql.Identifier("t", self.source.tenant))
        by += [time, *(sql.Identifier("t", key) for key in self.source.keys)]
        return sql.SQL(" order by {}").format(sql.SQL(", ").join(by))


@dataclass(frozen=True, slots=True)
class Extent:
    """How many rows a day has, and the first and last page of the table that hold some."""

    rows: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of one tenant's day that follow on each other; the day may have more before or after.

    Attributes:
        tenant: Whose.
        day: Of which day; None: no day that is archived, because the time is null, in the future or too old.
        rows: The rows as they are archived.
        content: Their digests.
        earliest: The first moment, in microseconds since 1970.
        latest: The last one.
    """

    tenant: UUID
    day: date | None
    rows: pa.RecordBatch
    content: Digest
    earliest: int
    latest: int


@contextmanager
def connected(dsn: str) -> Iterator[Any]:
    """A connection for scans, in one read-only transaction of one snapshot; it stands in UTC and in no tenant.

    Raises:
        SourceError: Postgres cannot be reached, or not read as it must be.
    """
    from adbc_driver_manager import Error
    from adbc_driver_postgresql import dbapi

    try:
        connection = dbapi.connect(dsn)
    except Error as error:
        raise _translated(error) from None
    try:
        with connection.cursor() as cursor:
            cursor.execute("set transaction isolation level repeatable read, read only")
            cursor.execute(sql.SQL("select {}").format(digest.spelling(local=False)).as_string(None))
            cursor.execute("set synchronize_seqscans = off")  # a scan that begins in the middle breaks every order
            cursor.execute("set row_security = off")  # a policy that would filter is an error, not a smaller archive
            cursor.execute(f"set lock_timeout = '{_LOCK_TIMEOUT}'")
            cursor.execute("set statement_timeout = 0")
            cursor.execute(f"set work_mem = '{_SORT_MEMORY}'")
        yield connection
    except (Error, OSError, pa.ArrowException) as error:
        raise _translated(error) from None
    finally:
        connection.close()


def stand_in(connection: Any, tenant: UUID) -> None:
    """Makes the connection see one tenant's rows, where row level security binds our role."""
    with connection.cursor() as cursor:
        cursor.execute("set row_security = on")
        cursor.execute(f"set {TENANT_SETTING} = '{tenant}'")


def pieces(connection: Any, scan: Scan) -> Iterator[Piece]:
    """The rows of a scan, cut at every change of tenant and day."""
    for batch in batches(connection, scan):
        yield from cut(scan, batch)


def batches(connection: Any, scan: Scan) -> Iterator[pa.RecordBatch]:
    """The rows of a scan with their digests, as they come."""
    yield from stream(connection, scan.statement())


def stream(connection: Any, statement: str) -> Iterator[pa.RecordBatch]:
    """What a statement returns, in batches of a few megabytes."""
    with connection.cursor() as cursor:
        cursor.adbc_statement.set_options(**{"adbc.postgresql.batch_size_hint_bytes": str(_BATCH_BYTES)})
        cursor.execute(statement)
        with cursor.fetch_record_batch() as reader:
            yield from reader


def extents(connection: Any, scan: Scan) -> dict[date, Extent]:
    """Where the days of a scan lie; a day without rows is not named."""
    with connection.cursor() as cursor:
        cursor.execute(scan.extents())
        return {day: Extent(rows, first, last) for day, rows, first, last in cursor.fetchall()}


def days_of(scan: Scan, batch: pa.RecordBatch) -> Any:
    """The day of each row as a number since 1970; -1 for a row of no day that is archived."""
    moments = _moments(scan, batch)
    return np.where(_archivable(scan, moments), moments // _DAY_MICROSECONDS, -1)


def cut(scan: Scan, batch: pa.RecordBatch) -> Iterator[Piece]:
    """These rows, cut at every change of tenant and day."""
    count = batch.num_rows
    if not count:
        return
    moments = _moments(scan, batch)
    days = days_of(scan, batch)
    tenants = _tenants(scan, batch)
    changed = (days[1:] != days[:-1]) | (tenants[1:] != tenants[:-1])
    starts = np.concatenate(([0], np.nonzero(changed)[0] + 1))
    ends = np.concatenate((starts[1:], [count]))
    portable, fast = _sums(batch.column(_PORTABLE), starts), _sums(batch.column(_FAST), starts)
    earliest, latest = np.minimum.reduceat(moments, starts), np.maximum.reduceat(moments, starts)
    rows = _rows(scan, batch)
    for number, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        day = int(days[start])
        yield Piece(
            tenant=UUID(bytes=tenants[start].tobytes()) if scan.source.tenant else NOBODY,
            day=EPOCH + timedelta(days=day) if day >= 0 else None,
            rows=rows.slice(start, end - start),
            content=Digest(end - start, portable[number], fast[number]),
            earliest=int(earliest[number]),
            latest=int(latest[number]),
        )


def _moments(scan: Scan, batch: pa.RecordBatch) -> Any:
    return np.asarray(batch.column(scan.source.time).cast(pa.int64()).fill_null(_no_moment()))


def _archivable(scan: Scan, moments: Any) -> Any:
    first = midnight(scan.first).timestamp() * 1_000_000
    end = midnight(scan.last + timedelta(days=1)).timestamp() * 1_000_000
    return (moments >= first) & (moments < end)


def _no_moment() -> int:
    return int(np.iinfo(np.int64).max)


def _tenants(scan: Scan, batch: pa.RecordBatch) -> Any:
    if not scan.source.tenant:
        return np.zeros(batch.num_rows, dtype="V16")
    column = batch.column(scan.source.tenant)
    storage = column.storage if isinstance(column, pa.ExtensionArray) else column
    if storage.null_count:
        raise SourceError(
            f"{scan.source.table} has rows whose {scan.source.tenant} is null",
            next_step="Nothing tells whose they are; declare the table without tenants, or mend the rows.",
        )
    data = np.frombuffer(storage.buffers()[1], dtype="V16")
    return data[storage.offset : storage.offset + len(storage)]


def _sums(column: pa.Array, starts: Any) -> list[int]:
    """Exact sums of 64-bit numbers from each start to the next: their halves do not overflow."""
    values = np.asarray(column)
    high = np.add.reduceat(values >> 32, starts)
    low = np.add.reduceat(values & 0xFFFFFFFF, starts)
    return [(int(h) << 32) + int(low_) for h, low_ in zip(high, low, strict=True)]


def _rows(scan: Scan, batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch.select([column.name for column in scan.columns])


def _translated(error: Any) -> SourceError:
    """Without Postgres's own words where they may quote a row: its code says enough."""
    state = getattr(error, "sqlstate", None) or "no answer"
    advice = {
        "42501": "Our role lacks a right, or row level security binds it; docs/audit-log.md lists the grants.",
        "53100": "The server's disk is full; sorting a large range needs room there.",
        "55P03": "Something holds a lock on the table; the next run tries again.",
        "28P01": "Check the address and password.",
    }
    return SourceError(
        f"the table cannot be read ({state})",
        next_step=advice.get(state, "Check that the database is up; what was begun is taken up by the next run."),
    )


def moment_of(microseconds: int) -> datetime:
    """The moment of so many microseconds since 1970."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds)
