"""Proving a range of the archive from the store alone: no database, and not the program that wrote it.

Belongs here: following the chain, taking every object of the range back, and listing what is wrong. Does not belong
here: printing it (`cli.audit_archive`). What has left the archive, and whether it was allowed to, the chain says
(`standing`): what a tombstone names is told, what is missing without one is a problem. What cannot be seen from the
store alone is a chain whose newest manifests were removed: for that the head is held against the ledger, or against one
that somebody wrote down. The chain is followed once, and of what it says one month at a time is held (`links`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import date

from adinsights_orchestration.audit_log.bookkeeping import chain
from adinsights_orchestration.audit_log.bookkeeping.links import Links
from adinsights_orchestration.audit_log.bookkeeping.manifest import ManifestError
from adinsights_orchestration.audit_log.bookkeeping.standing import Removed, Standing, month_of
from adinsights_orchestration.audit_log.days import span
from adinsights_orchestration.audit_log.model import At, Chunk, DataFile
from adinsights_orchestration.audit_log.reading.proving import verify
from adinsights_orchestration.audit_log.reading.reader import ContentError
from adinsights_orchestration.audit_log.source import Source
from adinsights_orchestration.audit_log.store.contract import Store

_CHUNKS_AT_ONCE = 256
_BYTES_AT_ONCE = 64 << 20
_Part = tuple[Chunk, tuple[DataFile, ...]]
_Failed = tuple[_Part, str]


@dataclass(slots=True)
class VerifyReport:
    """What was found.

    Attributes:
        manifests: Links of the chain that hold.
        head: The hash of the last of them.
        days: Days of the range that are archived.
        rows: Rows that were read back and are what was sealed.
        objects: Objects that were read back.
        size: Their bytes.
        missing: Days of the range that no manifest is about.
        problems: What is wrong, in words; nothing is when this is empty.
        removed: What has left the archive of these days, and why.
        lingering: Objects of these days that are gone by the chain, and that the store has not let go of.
    """

    manifests: int = 0
    head: str = ""
    days: int = 0
    rows: int = 0
    objects: int = 0
    size: int = 0
    missing: list[date] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    removed: list[Removed] = field(default_factory=list)
    lingering: list[str] = field(default_factory=list)


def verify_range(
    store: Store,
    source: Source,
    first: date,
    last: date,
    *,
    at_once: int = 8,
    head: str = "",
    only: Callable[[Chunk], bool] | None = None,
) -> VerifyReport:
    """Follows the whole chain, and takes back every object of the days from the first to the last.

    Args:
        store: The archive.
        source: The table.
        first: The first day.
        last: The last one, included.
        at_once: Objects that are read at once.
        head: A hash that the chain must have come by: proof that its end was not cut off before it.
        only: Of the range, take back the objects of these tenants' days alone; the others need a manifest all the same.
    """
    report = VerifyReport()
    links = Links(store, source.name)
    _follow(links, store, source, report)
    if head and not links.has(head):
        report.problems.append(f"the chain does not hold the manifest {head}: its end is missing")
    report.removed = [each for each in links.removed if each.first_day <= last and first <= each.last_day]
    report.missing = [day for day in span(first, last) if day not in links.days]
    report.days = (last - first).days + 1 - len(report.missing)
    months = _Months(store, source, links, first, last, at_once, report)
    failed = {month: found for month in links.months if (found := months.prove(month, only))}
    report.lingering = months.lingering()
    while failed and (said := months.newly_said()):
        # Somebody compacted or expired meanwhile: what stands in place of what is gone by now is proven instead.
        for month in sorted(said | failed.keys()):
            again = {(chunk.tenant, chunk.day) for (chunk, _), _ in failed.pop(month, [])}
            if found := months.prove_again(month, again):
                failed[month] = found
    report.problems += [problem for month in sorted(failed) for _, problem in failed[month]]
    return report


@dataclass(slots=True)
class _Months:
    """The proof of a range, of which one month at a time is held in memory.

    Attributes:
        gone: Hashes of the keys in the range of which the chain says that they are gone.
    """

    store: Store
    source: Source
    links: Links
    first: date
    last: date
    at_once: int
    report: VerifyReport
    gone: set[int] = field(default_factory=set)

    def prove(self, month: date, only: Callable[[Chunk], bool] | None) -> list[_Failed]:
        """Holds a month against the rules, and takes its objects back; returns those that are not as they were."""
        standing = self._standing(month)
        self.gone.update(hash(key) for key in standing.gone if self._in_range(key))
        in_range = {at: each for at, each in standing.in_force.items() if self.first <= at[1] <= self.last}
        ats = [at for at, chunk in in_range.items() if only is None or only(chunk)]
        return self._take_back(standing, ats)

    def prove_again(self, month: date, ats: Collection[At]) -> list[_Failed]:
        """The same, of some tenants' days, after something new was said of the month."""
        standing = self._standing(month)
        return self._take_back(standing, [at for at in ats if at in standing.in_force])

    def newly_said(self) -> set[date]:
        """The months of which the chain says more than when it was followed; that is part of the report from now on."""
        try:
            said = self.links.follow()
        except ManifestError:
            return set()  # told already, or by the next
        self.report.manifests, self.report.head = self.links.number, self.links.head
        return said

    def lingering(self) -> list[str]:
        """A store that is away says so when the objects are read; here only what it lists counts."""
        if not self.gone:
            return []
        tenants = {tenant for removed in self.links.removed for tenant in removed.tenants}
        prefixes = (chain.tenant_prefix(self.source.name, tenant) for tenant in sorted(tenants))
        found = [key for prefix in prefixes for key in self.store.keys(prefix) if hash(key) in self.gone]
        by_month: dict[date, list[str]] = {}
        for key in sorted(found):
            by_month.setdefault(month_of(chain.day_of_key(key)), []).append(key)
        gone = {month: self._standing(month).gone for month in by_month}  # of few months, if of any
        return [key for month, keys in by_month.items() for key in keys if key in gone[month]]

    def _standing(self, month: date) -> Standing:
        try:
            standing = self.links.standing(month)
        except ManifestError as error:
            standing = Standing(problems=[str(error)])
        self.report.problems += [each for each in standing.problems if each not in self.report.problems]
        return standing

    def _in_range(self, key: str) -> bool:
        return month_of(self.first) <= chain.day_of_key(key) <= self.last

    def _take_back(self, standing: Standing, ats: Collection[At]) -> list[_Failed]:
        parts = [(standing.in_force[at], standing.files_of(standing.in_force[at])) for at in ats]
        parts.sort(key=lambda each: (each[0].files, each[0].day))  # the days of one object together: it is read once
        failed: list[_Failed] = []
        for group in _groups(parts):
            failed += _take_back(self.store, self.source, group, self.at_once, self.report)
        return failed


def _follow(links: Links, store: Store, source: Source, report: VerifyReport) -> None:
    try:
        links.follow()
    except ManifestError as error:
        report.problems.append(str(error))
    for key in chain.beyond_the_end(store, source.name, links.number + bool(report.problems)):
        report.problems.append(f"{key}: a manifest before it is missing")
    report.manifests, report.head = links.number, links.head


def _groups(wanted: Sequence[_Part]) -> list[list[_Part]]:
    groups: list[list[_Part]] = []
    size = 0
    known: set[str] = set()
    for part in wanted:
        files = [file for file in part[1] if file.key not in known]
        if not groups or (files and (size >= _BYTES_AT_ONCE or len(groups[-1]) >= _CHUNKS_AT_ONCE)):
            groups.append([])
            size, known = 0, set()
        groups[-1].append(part)
        size += sum(file.size for file in files)
        known.update(part[0].files)
    return groups


def _take_back(
    store: Store, source: Source, parts: Sequence[_Part], at_once: int, report: VerifyReport
) -> list[_Failed]:
    files = list({file.key: file for _, its in parts for file in its}.values())
    try:
        verify(source, store, [chunk for chunk, _ in parts], files, at_once)
    except ContentError as error:
        if len(parts) == 1:
            return [(parts[0], str(error))]
        return [each for part in parts for each in _take_back(store, source, [part], at_once, report)]
    report.rows += sum(chunk.rows for chunk, _ in parts)
    report.objects += len(files)
    report.size += sum(file.size for file in files)
    return []
