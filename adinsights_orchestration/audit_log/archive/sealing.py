"""One range of days on its way into the archive: scan, write, verify, seal, in the order of days.

Belongs here: the pipeline of one run. Does not belong here: who may run it and what is journalled (`run`). Three
threads work at once, each on what the one before has finished: one reads, one encodes, one writes and takes back. What
lies between them is bounded, and so is memory, whatever the size of the table and of one tenant's day.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import partial
from uuid import UUID

from adinsights_orchestration.audit_log.ahead import read_ahead
from adinsights_orchestration.audit_log.archive.encoding import Filling, WaitingRoom
from adinsights_orchestration.audit_log.archive.export import Piece, Scan, connected, stand_in
from adinsights_orchestration.audit_log.archive.intake import Gathering, Ready, gathered
from adinsights_orchestration.audit_log.archive.keeping import Differing, differing
from adinsights_orchestration.audit_log.archive.ordering import few_days, in_order
from adinsights_orchestration.audit_log.archive.report import ArchiveReport, DayReport
from adinsights_orchestration.audit_log.archive.writing import Writer, Written
from adinsights_orchestration.audit_log.bookkeeping import chain
from adinsights_orchestration.audit_log.bookkeeping.ledger import ArchivedDay, ArchiveLedger, InForce, Reading
from adinsights_orchestration.audit_log.bookkeeping.manifest import Manifest, ManifestKind, newest
from adinsights_orchestration.audit_log.days import span
from adinsights_orchestration.audit_log.model import At, Chunk, DataFile, Digest, State
from adinsights_orchestration.audit_log.reading.scratch import private_folder
from adinsights_orchestration.audit_log.source import Column, Source, SourceError
from adinsights_orchestration.audit_log.store.contract import Store
from adinsights_orchestration.audit_log.table.access import Access, Right, require_access, tenants_to_stand_in
from adinsights_orchestration.audit_log.table.catalog import columns_of
from adinsights_orchestration.audit_log.table.clocks import ASK, require_same_time
from adinsights_orchestration.audit_log.table.reaching import has_tenant_index
from adinsights_orchestration.backend.database import BackendDatabase
from adinsights_orchestration.clock import Clock, utc_now
from adinsights_orchestration.settings import AuditLogSettings

_MOST_CHUNKS = 256  # of one group: so many small objects are read back by one query
_GROUP_SHARE = 8  # several groups are under way at once, and each is held twice: encoded and taken back
_FUTURE = timedelta(days=1)
_PIECES_AHEAD = 64
_BYTES_AHEAD = 16 << 20  # of a large day, one piece is all that the server sends at once
_PACKAGES = ("adinsights-orchestration", "adbc-driver-postgresql", "pyarrow", "duckdb", "obstore")


@dataclass(frozen=True, slots=True)
class Parts:
    """What a run works with.

    Attributes:
        source: The table.
        dsn: The address of its database.
        database: A handle on the same.
        store: The archive.
        ledger: Where its steps are committed.
        settings: How it is written.
        clock: The moment of each step.
        host: This host's clock, which the table's server must agree with.
    """

    source: Source
    dsn: str
    database: BackendDatabase
    store: Store
    ledger: ArchiveLedger
    settings: AuditLogSettings
    clock: Clock
    host: Clock = utc_now


@dataclass(frozen=True, slots=True)
class Table:
    """What was asked of Postgres before the scan; tenants only where the role goes by them."""

    columns: tuple[Column, ...]
    access: Access
    tenants: tuple[UUID, ...]
    indexed: bool


@dataclass(slots=True)
class _Day:
    """A day that is being put together."""

    revision: int
    known: dict[UUID, InForce]
    seen: set[UUID] = field(default_factory=set)
    rows: int = 0
    late: int = 0
    altered: int = 0
    unchanged: set[UUID] = field(default_factory=set)
    written: list[Chunk] = field(default_factory=list)
    files: list[DataFile] = field(default_factory=list)
    under_way: int = 0
    complete: bool = False

    @property
    def gone(self) -> list[UUID]:
        """Tenants of whose rows some should be there, and none are."""
        return [tenant for tenant, known in self.known.items() if known.left.rows and tenant not in self.seen]


def look_at(parts: Parts) -> Table:
    """Asks Postgres what the table is and what our role may do with it.

    Raises:
        AuditAccessError: It may not read it, or would silently read less than all.
        SourceError: It is not what its declaration says.
        ClockError: Its server's clock and this host's are far apart: days would be closed before they are over.
    """
    with parts.database.session() as session:
        with session.snapshot() as cursor:
            ((server,),) = cursor.execute(ASK).fetchall()
            require_same_time(parts.host(), server, "the table's server")
            columns = columns_of(cursor, parts.source)
            indexed = has_tenant_index(cursor, parts.source)
            tenants = tenants_to_stand_in(cursor, parts.source.table) if parts.source.tenant else ()
        with session.transaction() as cursor:
            access = require_access(cursor, parts.source.table, tenants, [Right.SELECT], tenant=parts.source.tenant)
            return Table(columns, access, tenants, indexed)


class RangeRun:
    """Archives a range of days that is closed, under the table's lock.

    Args:
        parts: What it works with.
        report: What it did, filled as it goes.
        anew: Tenants' days that are written anew although nothing changed: their objects are damaged.
        narrower: Days that were archived with a column that the table lacks by now are archived without it.
    """

    def __init__(
        self,
        parts: Parts,
        first: date,
        last: date,
        report: ArchiveReport,
        anew: Collection[At] = (),
        *,
        narrower: bool = False,
    ) -> None:
        self._parts, self._first, self._last, self._report = parts, first, last, report
        self._anew = frozenset(anew)
        self._table = look_at(parts)
        names = {column.name for column in self._table.columns}
        self._lacking = {} if narrower else parts.ledger.lacking(first, last, names)
        self._reading = Reading(self._table.columns, self._table.access.server_major, report.run, parts.clock())
        self._writer = Writer(
            parts.source, parts.store, parts.ledger, self._reading, parts.clock, parts.settings.at_once
        )
        self._archived = parts.ledger.days(first, last)
        self._read_last: tuple[object, dict[At, tuple[Chunk, Manifest]]] = (None, {})
        self._days = self._begin_days()
        self._next = first  # the first day that is not sealed
        self._group: list[Ready] = []
        self._group_bytes = 0
        self._under_way: Future[Written] | None = None

    def run(self) -> None:
        """Does all of it."""
        with private_folder() as folder, ThreadPoolExecutor(1, thread_name_prefix="audit-write") as pool:
            room = WaitingRoom(folder)
            for gathering in self._gatherings(room):
                self._take(gathering, pool)
            self._send(pool)
            self._collect()
            for day in self._days.values():
                day.complete = True
            self._seal_ready()

    def _begin_days(self) -> dict[date, _Day]:
        known: dict[date, dict[UUID, InForce]] = {}
        for (tenant, day), each in self._parts.ledger.in_force(self._first, self._last).items():
            if each.state is State.DELETING:
                raise SourceError(
                    f"rows of {day} are half-way deleted",
                    next_step="Let `audit_log/retention` run first: it finds out what became of them.",
                )
            known.setdefault(day, {})[tenant] = each
        revision = {day: each.revision for day, each in self._archived.items()}
        return {day: _Day(revision.get(day, 0) + 1, known.get(day, {})) for day in span(self._first, self._last)}

    def _gatherings(self, room: WaitingRoom) -> Iterator[Gathering]:
        parts = self._parts
        future = parts.clock() + _FUTURE
        groups: list[tuple[UUID, ...] | None] = [None]
        if self._table.access.per_tenant:
            groups = [(tenant,) for tenant in self._table.tenants]
        with connected(parts.dsn) as connection:
            for tenants in groups:
                if tenants is not None:
                    stand_in(connection, tenants[0])
                scan = Scan(
                    parts.source,
                    self._table.columns,
                    self._first,
                    self._last,
                    future,
                    parts.settings.first_day,
                    tenants,
                    by_tenant=self._table.indexed and tenants is None and few_days(self._first, self._last),
                )
                with read_ahead(in_order(connection, scan), _PIECES_AHEAD, _size_of, _BYTES_AHEAD) as ahead:
                    yield from gathered(ahead, partial(self._begin, room), self._odd)

    def _begin(self, room: WaitingRoom, tenant: UUID, day: date) -> Gathering:
        return Gathering(Filling(self._parts.source, self._table.columns, tenant, day, self._group_limit(), room))

    def _odd(self, piece: Piece) -> None:
        self._report.odd_rows += piece.content.rows

    def _take(self, gathering: Gathering, pool: ThreadPoolExecutor) -> None:
        if not self._table.access.per_tenant:
            for before in span(self._next, gathering.day - timedelta(days=1)):
                self._days[before].complete = True
        day = self._days[gathering.day]
        day.seen.add(gathering.tenant)
        day.rows += gathering.live.rows
        known = day.known.get(gathering.tenant)
        as_sealed = gathering.is_as(known, self._same_reading(gathering.day))
        if as_sealed and (gathering.tenant, gathering.day) not in self._anew:
            day.unchanged.add(gathering.tenant)
            gathering.filling.forget()
            return
        # Nobody would read the column back any more, which only a person may want. Of a day that has left the table
        # the rows that come late lie beside what is archived, which keeps its columns.
        without = self._lacking.get((gathering.day, known.revision)) if known is not None and known.left.rows else None
        if without:
            self._report.kept[gathering.tenant, gathering.day] = f"without column {', '.join(without)}"
            gathering.filling.forget()
            return
        if known is not None:
            day.late += max(gathering.live.rows - known.left.rows, 0)
        gathering.filling.flush()
        nothing_lost = as_sealed and known is not None and known.rows == known.left.rows
        found = Differing() if nothing_lost else self._differing(gathering, known)
        day.altered += found.changed
        ready = gathering.ready(day.revision, found.lost)
        day.under_way += 1
        self._group.append(ready)
        self._group_bytes += sum(encoded.file.size for encoded in ready.objects)
        if len(self._group) >= _MOST_CHUNKS or self._group_bytes >= self._group_limit():
            self._send(pool)

    def _group_limit(self) -> int:
        return (self._parts.settings.object_megabytes << 20) // _GROUP_SHARE

    def _same_reading(self, day: date) -> bool:
        archived = self._archived.get(day)
        return archived is not None and (archived.columns, archived.server_major) == (
            self._table.columns,
            self._table.access.server_major,
        )

    def _differing(self, gathering: Gathering, known: InForce | None) -> Differing:
        if known is None:
            return Differing()
        chunk, manifest = self._in_force(gathering.day)[gathering.tenant, gathering.day]
        files = [file for file in manifest.files if file.key in chunk.files]
        return differing(self._parts.store, files, gathering.filling)

    def _in_force(self, day: date) -> dict[At, tuple[Chunk, Manifest]]:
        """What is in force of a day; its manifests are taken back once for all of its tenants.

        Each must be the one that the ledger knows: what it says is written into the next one.
        """
        about = self._parts.ledger.about(day, day).manifests
        if self._read_last[0] != (day, about):
            store, name = self._parts.store, self._parts.source.name
            manifests = (chain.load_known(store, name, number, hash_) for number, hash_ in about)
            self._read_last = ((day, about), newest(manifests, lambda at: at[1] == day))
        return self._read_last[1]

    def _send(self, pool: ThreadPoolExecutor) -> None:
        self._collect()
        if self._group:
            group, self._group, self._group_bytes = self._group, [], 0
            self._under_way = pool.submit(self._writer.write, group)

    def _collect(self) -> None:
        """Waits for the group that is under way, and seals what became complete by it."""
        if self._under_way is None:
            return
        written = self._under_way.result()
        self._under_way = None
        files = {file.key: file for file in written.files}
        for chunk in written.chunks:
            day = self._days[chunk.day]
            day.written.append(chunk)
            day.files += [files[key] for key in chunk.files]
            day.under_way -= 1
        self._report.objects += len(written.files)
        self._report.written += sum(file.size for file in written.files)
        self._seal_ready()

    def _seal_ready(self) -> None:
        while (day := self._days.get(self._next)) is not None and day.complete and not day.under_way:
            self._seal(self._next, day)
            del self._days[self._next]
            self._next += timedelta(days=1)

    def _seal(self, date_: date, day: _Day) -> None:
        archived = self._archived.get(date_)
        if archived is not None and not day.written and not day.gone:
            rows, size, files, revision = archived.rows, archived.size, archived.files, archived.revision
            self._report.days.append(DayReport(date_, revision, day.rows, rows, size, files, False))
            return
        manifest = self._manifest(date_, day, archived)
        chain.append(self._parts.store, manifest)
        vanished = self._parts.ledger.record(manifest, self._parts.clock(), self._reading, dict(self._missed(day)))
        self._report.days.append(
            DayReport(
                date_,
                day.revision,
                day.rows,
                manifest.rows,
                manifest.size,
                len(manifest.files),
                changed=True,
                late=day.late if archived is None else sum(self._late(day)),
                vanished=sum(vanished.values()),
                altered=day.altered,
            )
        )

    def _late(self, day: _Day) -> Iterator[int]:
        for chunk in day.written:
            known = day.known.get(chunk.tenant)
            yield max(chunk.live.rows - known.left.rows, 0) if known is not None else chunk.live.rows

    def _missed(self, day: _Day) -> Iterator[tuple[UUID, int]]:
        for tenant in day.gone:
            yield tenant, day.known[tenant].left.rows
        for chunk in day.written:
            known = day.known.get(chunk.tenant)
            if known is not None:
                yield chunk.tenant, (chunk.rows - chunk.live.rows) - (known.rows - known.left.rows)

    def _manifest(self, date_: date, day: _Day, archived: ArchivedDay | None) -> Manifest:
        chunks, files = list(day.written), {file.key: file for file in day.files}
        if archived is not None:
            new = {chunk.tenant for chunk in day.written}
            for (tenant, _), (chunk, manifest) in self._in_force(date_).items():
                if tenant in new:
                    continue
                kept = chunk
                if tenant in day.gone:
                    kept = _without_live(chunk, day.revision)
                chunks.append(kept)
                files |= {file.key: file for file in manifest.files if file.key in chunk.files}
        sequence, previous = self._parts.ledger.head()
        return Manifest(
            source=self._parts.source.name,
            sequence=sequence + 1,
            previous=previous,
            kind=ManifestKind.DAY,
            first_day=date_,
            last_day=date_,
            revision=day.revision,
            chunks=tuple(sorted(chunks, key=lambda chunk: chunk.tenant)),
            files=tuple(files[key] for key in sorted(files)),
            written_at=self._parts.clock(),
            server_major=self._table.access.server_major,
            versions=versions(),
        )


def _size_of(piece: Piece) -> int:
    return int(piece.rows.nbytes)


def _without_live(chunk: Chunk, revision: int) -> Chunk:
    """The same chunk, of which the table holds nothing any more."""
    return Chunk(
        tenant=chunk.tenant,
        day=chunk.day,
        revision=revision,
        rows=chunk.rows,
        portable=chunk.portable,
        live=Digest(),
        earliest=chunk.earliest,
        latest=chunk.latest,
        files=chunk.files,
    )


def versions() -> dict[str, str]:
    """What writes manifests, for people."""
    return {name: importlib.metadata.version(name) for name in _PACKAGES}
