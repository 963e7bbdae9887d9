"""The archive's ledger in the ops store: what stands where of every tenant's day, moved by compare-and-set.

Belongs here: statements on the ledger's tables. Does not belong here: deciding what to archive or delete. The archive
itself is what is right: a manifest that the chain has and the ledger lacks (its writer died in between) is recorded
from the chain, and a ledger that was lost is made anew from it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from adinsights_orchestration.audit_log.bookkeeping import chain, removal_ledger, vanishing
from adinsights_orchestration.audit_log.bookkeeping.manifest import ADVICE, Manifest, ManifestKind
from adinsights_orchestration.audit_log.model import FOLLOWS, IN_FORCE, UNFINISHED, At, Chunk, Digest, Gone, State
from adinsights_orchestration.audit_log.source import Column
from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.ops_store.audit_tables import audit_chunk, audit_day, audit_manifest
from adinsights_orchestration.ops_store.store import OpsStore

_Rows = Mapping[UUID, int]  # by tenant

# Arrays, because a statement of so many rows would be compiled anew each time, which costs more than running it.
_PUT = sa.text("""
insert into adinsights_ops.audit_chunk as c
       (source, tenant_id, day, revision, state, changed_at, rows, portable, left_rows, left_portable, left_fast)
select :source, each.tenant_id, each.day, each.revision, :state, :now, each.rows, each.portable,
       each.left_rows, each.left_portable, each.left_fast
  from unnest(cast(:tenants as uuid[]), cast(:days as date[]), cast(:revisions as int[]), cast(:rows as bigint[]),
              cast(:portable as numeric[]), cast(:left_rows as bigint[]), cast(:left_portable as numeric[]),
              cast(:left_fast as numeric[]))
       as each (tenant_id, day, revision, rows, portable, left_rows, left_portable, left_fast)
on conflict (source, tenant_id, day, revision) do update
   set state = excluded.state, changed_at = excluded.changed_at, rows = excluded.rows, portable = excluded.portable,
       left_rows = excluded.left_rows, left_portable = excluded.left_portable, left_fast = excluded.left_fast,
       deleted_rows = 0, deleted_at = null, staying = null
 where c.state = any(cast(:over as text[]))""")
_ADVANCE = sa.text("""
update adinsights_ops.audit_chunk c set state = :after, changed_at = :now
  from unnest(cast(:tenants as uuid[]), cast(:days as date[]), cast(:revisions as int[]))
       as each (tenant_id, day, revision)
 where c.source = :source and c.tenant_id = each.tenant_id and c.day = each.day and c.revision = each.revision
   and c.state = :before""")


class LedgerConflictError(AdinsightsError):
    """The ledger says otherwise than this process believes; it stopped before doing anything more."""


@dataclass(frozen=True, slots=True)
class InForce:
    """What the ledger has of a tenant's day that is archived.

    Attributes:
        revision: The revision in force.
        state: Sealed, deleting or deleted.
        rows: How many the archive holds.
        left: What of them is expected in the table.
    """

    revision: int
    state: State
    rows: int
    left: Digest


@dataclass(frozen=True, slots=True)
class ArchivedDay:
    """A day's newest revision that is sealed.

    Attributes:
        day: The day.
        revision: How often it has been archived.
        rows: How many the archive holds.
        size: In bytes.
        files: Objects.
        columns: The table's columns at that time, of which the fast digests are.
        server_major: The major version of the server that computed them.
        sealed_at: When.
    """

    day: date
    revision: int
    rows: int
    size: int
    files: int
    columns: tuple[Column, ...]
    server_major: int
    sealed_at: datetime


@dataclass(frozen=True, slots=True)
class Reading:
    """How a day was read.

    Attributes:
        columns: The table's columns.
        server_major: The server's major version.
        run: The run that reads it.
        started_at: When it began.
    """

    columns: tuple[Column, ...]
    server_major: int
    run: UUID
    started_at: datetime


@dataclass(frozen=True, slots=True)
class Known:
    """What the ledger knows of a chain, for a range of days.

    Attributes:
        manifests: Number and hash of those that are about the range, in order.
        number: The number of the last one of all; 0 before the first.
        head: Its hash.
    """

    manifests: tuple[tuple[int, str], ...]
    number: int
    head: str


class ArchiveLedger:
    """The ledger of one table.

    Args:
        store: Where it is.
        source: The table's name in the archive.
    """

    def __init__(self, store: OpsStore, source: str) -> None:
        self._store = store
        self.source = source

    def head(self) -> tuple[int, str]:
        """Number and hash of the last manifest; 0 and nothing before the first."""
        query = sa.select(audit_manifest.c.sequence, audit_manifest.c.hash).where(self._is(audit_manifest))
        with self._store.begin() as connection:
            row = connection.execute(query.order_by(audit_manifest.c.sequence.desc()).limit(1)).first()
        return (row.sequence, row.hash) if row is not None else (0, "")

    def about(self, first: date, last: date) -> Known:
        """What is known of the manifests that are about a range of days; together they say what holds of it."""
        table = audit_manifest
        head = sa.select(sa.func.max(table.c.sequence)).where(self._is(table)).scalar_subquery()
        query = sa.select(table.c.sequence, table.c.hash, table.c.first_day, table.c.last_day).where(
            self._is(table),
            sa.or_(sa.and_(table.c.first_day <= last, first <= table.c.last_day), table.c.sequence == head),
        )
        with self._store.begin() as connection:
            rows = connection.execute(query.order_by(table.c.sequence)).all()
        if not rows:
            return Known((), 0, "")
        mine = ((row.sequence, row.hash) for row in rows if row.first_day <= last and first <= row.last_day)
        return Known(tuple(mine), rows[-1].sequence, rows[-1].hash)

    def in_force(self, first: date, last: date) -> dict[At, InForce]:
        """What is archived of these days, by tenant and day."""
        table = audit_chunk
        states = [state.value for state in IN_FORCE]
        query = sa.select(table).where(self._is(table), table.c.day.between(first, last), table.c.state.in_(states))
        with self._store.begin() as connection:
            rows = connection.execute(query).all()
        return {(row.tenant_id, row.day): _in_force(row) for row in rows}

    def days(self, first: date, last: date) -> dict[date, ArchivedDay]:
        """The days of these that are archived, each with its newest revision."""
        table = audit_day
        query = (
            sa.select(table)
            .where(self._is(table), table.c.day.between(first, last), table.c.sequence.is_not(None))
            .order_by(table.c.day, table.c.revision)
        )
        with self._store.begin() as connection:
            return {row.day: _archived_day(row) for row in connection.execute(query)}

    def lacking(self, first: date, last: date, present: Collection[str]) -> dict[tuple[date, int], tuple[str, ...]]:
        """Of these days' revisions, those that were archived with columns that the table lacks by now, and which."""
        table = audit_day.c
        query = sa.select(table.day, table.revision, table.columns).where(
            self._is(audit_day), table.day.between(first, last), table.sequence.is_not(None)
        )
        with self._store.begin() as connection:
            rows = connection.execute(query).all()
        found = {(day, revision): [name for name, _ in of if name not in present] for day, revision, of in rows}
        return {each: tuple(names) for each, names in found.items() if names}

    def plan(self, chunks: Sequence[Chunk], reading: Reading, now: datetime) -> None:
        """Commits that these chunks are about to be written; what a dead run planned of the same is forgotten."""
        with self._store.begin() as connection:
            for day, revision in sorted({(chunk.day, chunk.revision) for chunk in chunks}):
                self._begin_day(connection, day, revision, reading)
            if self._put(connection, chunks, State.PLANNED, now, over=UNFINISHED) != len(chunks):
                raise LedgerConflictError("a chunk that is to be written is archived already", next_step=_AGAIN)

    def advance(self, chunks: Sequence[Chunk], before: State, after: State, now: datetime) -> None:
        """Moves chunks from one state to the next.

        Raises:
            LedgerConflictError: One of them is not in the state before.
        """
        if after not in FOLLOWS[before]:
            raise ValueError(f"{after} does not follow on {before}")
        with self._store.begin() as connection:
            values = {"before": before.value, "after": after.value, "now": now}
            moved = connection.execute(_ADVANCE, values | self._arrays(chunks)).rowcount
            if moved != len(chunks):
                raise LedgerConflictError(
                    f"{len(chunks) - moved} of {len(chunks)} chunks are not {before} any more", next_step=_AGAIN
                )

    def record(
        self, manifest: Manifest, now: datetime, reading: Reading | None = None, missed: _Rows | None = None
    ) -> _Rows:
        """Records a manifest that stands in the chain, and what it changes, all at once; twice is once.

        Args:
            manifest: The manifest.
            now: The moment.
            reading: How its day was read; None where that is not known, because the chain is caught up with.
            missed: Rows of each tenant that whoever read the day has missed; what of them has vanished is returned.

        Raises:
            LedgerConflictError: The ledger has another manifest of this number, or lacks the one before.
        """
        vanished: _Rows = {}
        with self._store.begin() as connection:
            if not self._add_manifest(connection, manifest):
                return vanished
            if manifest.kind is ManifestKind.DAY:
                vanished = vanishing.of_sealing(connection, manifest, missed)
                self._seal_day(connection, manifest, now, reading)
                self._seal_chunks(connection, manifest, now)
            elif manifest.gone is not None:
                self._take_over(connection, manifest, manifest.gone, now)
                vanishing.of_removal(connection, manifest, manifest.gone)
            removal_ledger.named_again(connection, manifest)
        return vanished

    def _add_manifest(self, connection: sa.Connection, manifest: Manifest) -> bool:
        table, sequence = audit_manifest, manifest.sequence
        query = sa.select(table.c.sequence, table.c.hash).where(
            self._is(table), table.c.sequence.in_([sequence - 1, sequence])
        )
        known = {row.sequence: row.hash for row in connection.execute(query)}
        if sequence in known and known[sequence] == manifest.hash:
            return False
        if sequence in known or known.get(sequence - 1, "") != manifest.previous:
            raise LedgerConflictError(
                f"the ledger knows another chain of {self.source} than the archive holds",
                place=f"manifest {sequence}",
                next_step=ADVICE,
            )
        connection.execute(
            sa.insert(table).values(
                source=self.source,
                sequence=sequence,
                kind=manifest.kind.value,
                hash=manifest.hash,
                first_day=manifest.first_day,
                last_day=manifest.last_day,
                written_at=manifest.written_at,
            )
        )
        return True

    def _begin_day(self, connection: sa.Connection, day: date, revision: int, reading: Reading) -> None:
        row = insert(audit_day).values(
            source=self.source, day=day, revision=revision, **_read_values(reading), started_at=reading.started_at
        )
        connection.execute(
            row.on_conflict_do_update(
                index_elements=[audit_day.c.source, audit_day.c.day, audit_day.c.revision],
                set_={**_read_values(reading), "started_at": reading.started_at},
                where=audit_day.c.sequence.is_(None),
            )
        )

    def _seal_day(self, connection: sa.Connection, manifest: Manifest, now: datetime, reading: Reading | None) -> None:
        of_day = [file.columns for file in manifest.files]
        if reading is None:
            columns = _columns_value(of_day[-1]) if of_day else []
            values: dict[str, Any] = {"columns": columns, "server_major": manifest.server_major}
        else:
            values = _read_values(reading)
        # An object of a month counts for its first day alone.
        files = [file for file in manifest.files if chain.day_of_key(file.key) == manifest.first_day]
        sealed = {
            "sequence": manifest.sequence,
            "rows": manifest.rows,
            "bytes": sum(file.size for file in files),
            "files": len(files),
            "sealed_at": manifest.written_at,
        }
        started_at = reading.started_at if reading is not None else now
        row = insert(audit_day).values(
            source=self.source,
            day=manifest.first_day,
            revision=manifest.revision,
            started_at=started_at,
            **values,
            **sealed,
        )
        connection.execute(
            row.on_conflict_do_update(
                index_elements=[audit_day.c.source, audit_day.c.day, audit_day.c.revision], set_=sealed
            )
        )

    def _seal_chunks(self, connection: sa.Connection, manifest: Manifest, now: datetime) -> None:
        new = [chunk for chunk in manifest.chunks if chunk.revision == manifest.revision]
        if not new:
            return
        connection.execute(
            sa.update(audit_chunk)
            .where(
                self._is(audit_chunk),
                audit_chunk.c.day == manifest.first_day,
                audit_chunk.c.tenant_id.in_([chunk.tenant for chunk in new]),
                audit_chunk.c.revision < manifest.revision,
                audit_chunk.c.state != State.SUPERSEDED.value,
            )
            .values(state=State.SUPERSEDED.value, changed_at=now)
        )
        self._put(connection, new, State.SEALED, now, over=tuple(State))

    def _put(
        self,
        connection: sa.Connection,
        chunks: Sequence[Chunk],
        state: State,
        now: datetime,
        *,
        over: tuple[State, ...],
    ) -> int:
        """Writes chunks, over those of the same revision that are in one of these states; returns how many."""
        values = {"state": state.value, "now": now, "over": [each.value for each in over]}
        return connection.execute(_PUT, values | self._arrays(chunks) | _contents(chunks)).rowcount

    def _take_over(self, connection: sa.Connection, manifest: Manifest, gone: Gone, now: datetime) -> None:
        """What is gone is in force no longer, and what stands in its place is."""
        removal_ledger.bury(connection, manifest, gone, now)
        buried = {(chunk.tenant, chunk.day) for chunk in gone.chunks}
        if instead := [chunk for chunk in manifest.chunks if (chunk.tenant, chunk.day) in buried]:
            removal_ledger.begin_days(connection, manifest, instead, now)
            self._put(connection, instead, State.SEALED, now, over=tuple(State))
        removal_ledger.count_days(connection, manifest, gone)

    def _arrays(self, chunks: Sequence[Chunk]) -> dict[str, Any]:
        return {
            "source": self.source,
            "tenants": [chunk.tenant for chunk in chunks],
            "days": [chunk.day for chunk in chunks],
            "revisions": [chunk.revision for chunk in chunks],
        }

    def _is(self, table: sa.Table) -> sa.ColumnElement[bool]:
        return table.c.source == self.source


_AGAIN = "Another process is at work on the same days; the next run takes up what is left."


def _contents(chunks: Sequence[Chunk]) -> dict[str, Any]:
    return {
        "rows": [chunk.rows for chunk in chunks],
        "portable": [chunk.portable for chunk in chunks],
        "left_rows": [chunk.live.rows for chunk in chunks],
        "left_portable": [chunk.live.portable for chunk in chunks],
        "left_fast": [chunk.live.fast for chunk in chunks],
    }


def _read_values(reading: Reading) -> dict[str, Any]:
    return {
        "columns": _columns_value(reading.columns),
        "server_major": reading.server_major,
        "run_id": str(reading.run),
    }


def _columns_value(columns: Iterable[Column]) -> list[list[str]]:
    return [[column.name, column.type] for column in columns]


def _in_force(row: sa.Row[Any]) -> InForce:
    left = Digest(row.left_rows, int(row.left_portable), int(row.left_fast))
    return InForce(row.revision, State(row.state), row.rows, left)


def _archived_day(row: sa.Row[Any]) -> ArchivedDay:
    columns = tuple(Column(name, type_) for name, type_ in row.columns)
    return ArchivedDay(row.day, row.revision, row.rows, row.bytes, row.files, columns, row.server_major, row.sealed_at)
