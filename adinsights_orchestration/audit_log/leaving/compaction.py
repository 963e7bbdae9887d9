"""Compaction: a month's small objects of a tenant become one, under a manifest that says so.

Belongs here: which months and objects, and one run over them. Does not belong here: encoding (`rewriting`) and how the
old objects leave (`removing`). A tenant's day is a few kilobytes, of which much is what every Parquet file costs; a
month in one object takes three fifths of the room and a thirtieth of the requests. No row changes, so each day keeps
its revision and its digests, and what is read back from the new object must have exactly those before any old one may
go. An object that also holds rows of an earlier revision stays as it is, as does one of which nothing is in force: what
a row said before somebody changed it is the archive's to keep, and only its time, its tenant's end or the law takes it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, timedelta
from uuid import UUID

from adinsights_orchestration.audit_log.archive.writing import put
from adinsights_orchestration.audit_log.bookkeeping import removal_ledger
from adinsights_orchestration.audit_log.bookkeeping.links import Links
from adinsights_orchestration.audit_log.bookkeeping.standing import Standing, month_of
from adinsights_orchestration.audit_log.days import span
from adinsights_orchestration.audit_log.leaving.removing import Archive, Leaving, RemovalError, Swept
from adinsights_orchestration.audit_log.leaving.rewriting import Input, inputs_of, rewrite
from adinsights_orchestration.audit_log.model import Cause, Chunk, DataFile
from adinsights_orchestration.audit_log.reading.proving import verify
from adinsights_orchestration.audit_log.source import Column
from adinsights_orchestration.audit_log.store.contract import Store

_SETTLED_AFTER = timedelta(days=7)  # after the month's end: rows that were committed late have come by then
_SMALL_BYTES = 8 << 20  # what is larger gains nothing
_DECODED = 16  # an object's rows in memory over its bytes, at most, as audit rows are


@dataclass(frozen=True, slots=True)
class Month:
    """What compaction makes of a month.

    Attributes:
        first: Its first day that is archived.
        last: Its last one.
        tenants: Tenants of whom some objects become fewer.
        before: Their objects before.
        after: And after; of a dry run how many there would be.
        size_before: Their bytes before.
        size_after: And after; 0 of a dry run.
    """

    first: date
    last: date
    tenants: int
    before: int
    after: int
    size_before: int
    size_after: int


@dataclass(slots=True)
class CompactionReport:
    """What a run did, or would do.

    Attributes:
        dry_run: Nothing was done.
        months: What became of each month that had something to gain.
        swept: What became of the old objects.
        pending: Old objects that the store still holds.
    """

    dry_run: bool
    months: list[Month] = field(default_factory=list)
    swept: Swept = field(default_factory=Swept)
    pending: int = 0


def compact(archive: Archive, *, apply: bool, month: date | None = None) -> CompactionReport:
    """Compacts every month that is settled, or one; or tells what there is to gain.

    Args:
        archive: Which archive.
        apply: Do it.
        month: Only the month of this day.

    Raises:
        RemovalError: The month is not settled, the chain is not in order, or somebody else is at work.
        ContentError: An object is damaged, or what was read back is not what was sealed; its month is as it was.
    """
    report = CompactionReport(not apply)
    store = archive.store
    if apply:
        with archive.locked(), archive.journalled(Cause.COMPACTED) as (run, summary):
            links = Links(store, archive.source.name)
            for each in [each for each, _ in _worth_it(archive, links, store, month)]:
                if (found := _compact(archive, store, links.standing(month_of(each[0])), each)) is not None:
                    leaving, told = found
                    archive.bury(store, run, Cause.COMPACTED, leaving)
                    report.months.append(told)
            report.swept = archive.sweep(store)
            summary |= {
                "months": [f"{told.first:%Y-%m}" for told in report.months],
                "objects_before": sum(told.before for told in report.months),
                "objects_after": sum(told.after for told in report.months),
            }
    else:
        report.months = [told for _, told in _worth_it(archive, Links(store, archive.source.name), store, month)]
    report.pending = len(removal_ledger.pending(archive.ops, archive.source.name))
    return report


def settled_months(first_day: date, today: date, archived: set[date]) -> Iterator[tuple[date, date]]:
    """The months that are over, settled and archived as a whole; the first one from the first day on."""
    begin = first_day
    while True:
        following = (begin.replace(day=1) + timedelta(days=31)).replace(day=1)
        if today < following + _SETTLED_AFTER:
            return
        if all(day in archived for day in span(begin, following - timedelta(days=1))):
            yield begin, following - timedelta(days=1)
        begin = following


def _worth_it(archive: Archive, links: Links, store: Store, only: date | None) -> list[tuple[tuple[date, date], Month]]:
    """The months that have something to gain, and what; all of the chain is in order when they are known."""
    found: list[tuple[tuple[date, date], Month]] = []
    settled: dict[date, tuple[date, date]] | None = None
    for month, standing in archive.read_by_month(store, links):
        if settled is None:  # the links are known from here on
            settled = {month_of(each[0]): each for each in _months(archive, links.days, only)}
        if month in settled and (told := _tell(archive, standing, settled[month])) is not None:
            found.append((settled[month], told))
    if settled is None:  # nothing is archived
        _months(archive, links.days, only)
    return found


def _months(archive: Archive, archived: set[date], only: date | None) -> list[tuple[date, date]]:
    today = archive.clock().astimezone(UTC).date()
    months = list(settled_months(archive.settings.audit_log.first_day, today, archived))
    if only is None:
        return months
    chosen = [each for each in months if (each[0].year, each[0].month) == (only.year, only.month)]
    if not chosen:
        raise RemovalError(
            f"{only:%Y-%m} is not settled",
            next_step="A month can be compacted a week after its end, when each of its days is archived.",
        )
    return chosen


def _groups(archive: Archive, standing: Standing, month: tuple[date, date]) -> Iterator[tuple[UUID, list[list[Input]]]]:
    """By tenant, what becomes one object each: small objects of the same columns, no more than fit into memory.

    All that such an object holds is in force: the next one may hold no less.
    """
    keys: dict[UUID, set[str]] = defaultdict(set)
    for (tenant, day), chunk in standing.in_force.items():
        if month[0] <= day <= month[1]:
            keys[tenant].update(chunk.files)
    most, users = (archive.settings.audit_log.object_megabytes << 20) // _DECODED, standing.users()
    stays = standing.with_former_rows()
    for tenant in sorted(keys):
        by_columns: dict[tuple[Column, ...], list[list[Input]]] = {}
        for each in inputs_of(standing, tenant, keys[tenant] - stays, users):
            if each.file.size >= min(_SMALL_BYTES, most):
                continue
            groups = by_columns.setdefault(each.file.columns, [[]])
            if sum(other.file.size for other in groups[-1]) + each.file.size > most:
                groups.append([])
            groups[-1].append(each)
        found = [group for groups in by_columns.values() for group in groups if len(group) > 1]
        if found:
            yield tenant, found


def _tell(archive: Archive, standing: Standing, month: tuple[date, date]) -> Month | None:
    tenants = list(_groups(archive, standing, month))
    groups = [group for _, found in tenants for group in found]
    files = [each.file for group in groups for each in group]
    if not files:
        return None
    return Month(*month, len(tenants), len(files), len(groups), sum(file.size for file in files), 0)


def _compact(
    archive: Archive, store: Store, standing: Standing, month: tuple[date, date]
) -> tuple[Leaving, Month] | None:
    before: dict[str, DataFile] = {}
    after: list[DataFile] = []
    chunks: list[Chunk] = []
    tenants = 0
    days: dict[UUID, list[Chunk]] = defaultdict(list)
    for (whose, _), chunk in sorted(standing.in_force.items(), key=lambda item: item[0][1]):
        days[whose].append(chunk)
    for tenant, groups in _groups(archive, standing, month):
        anew = _write(archive, store, tenant, groups)
        old = {each.file.key: each.file for group in groups for each in group}
        mine = [
            replace(chunk, files=_renamed(chunk, old, anew))
            for chunk in days[tenant]
            if not old.keys().isdisjoint(chunk.files)
        ]
        named = {key for chunk in mine for key in chunk.files}
        stands = [*anew, *(standing.files[key] for key in sorted(named - {file.key for file in anew}))]
        verify(archive.source, store, mine, stands, archive.settings.audit_log.at_once)
        before |= old
        after += stands
        chunks += mine
        tenants += 1
    if not before:
        return None
    sizes = sum(file.size for file in before.values()), sum(file.size for file in after)
    told = Month(*month, tenants, len(before), len(after), *sizes)
    return Leaving(*month, (), tuple(before.values()), tuple(chunks), tuple(after)), told


def _write(
    archive: Archive, store: Store, tenant: UUID, groups: Sequence[Sequence[Input]]
) -> Mapping[DataFile, frozenset[date]]:
    """Writes each group as one object; each with the days that it holds rows of."""
    written: dict[DataFile, frozenset[date]] = {}
    for group in groups:
        made = rewrite(store, archive.source, tenant, group)
        if made.encoded is not None:
            written[put(store, made.encoded)] = frozenset(made.kept)
    return written


def _renamed(chunk: Chunk, old: Mapping[str, DataFile], anew: Mapping[DataFile, frozenset[date]]) -> tuple[str, ...]:
    kept = [key for key in chunk.files if key not in old]
    return (*kept, *(file.key for file, days in anew.items() if chunk.day in days))
