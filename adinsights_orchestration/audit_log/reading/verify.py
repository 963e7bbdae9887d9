"""Proving a range of the archive from the store alone: no database, and not the program that wrote it.

Belongs here: following the chain, taking every object of the range back, and listing what is wrong. Does not belong
here: printing it (`cli.audit_archive`). What has left the archive, and whether it was allowed to, the chain says
(`standing`): what a tombstone names is told, what is missing without one is a problem. What cannot be seen from the
store alone is a chain whose newest manifests were removed: for that the head is held against the ledger, or against one
that somebody wrote down.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import date

from adinsights_orchestration.audit_log.bookkeeping import chain
from adinsights_orchestration.audit_log.bookkeeping.manifest import Manifest, ManifestError, ManifestKind
from adinsights_orchestration.audit_log.bookkeeping.standing import Removed, Standing, stand
from adinsights_orchestration.audit_log.days import span
from adinsights_orchestration.audit_log.model import Chunk, DataFile
from adinsights_orchestration.audit_log.reading.proving import verify
from adinsights_orchestration.audit_log.reading.reader import ContentError
from adinsights_orchestration.audit_log.source import Source
from adinsights_orchestration.audit_log.store.contract import Store

_CHUNKS_AT_ONCE = 256
_BYTES_AT_ONCE = 64 << 20
_Part = tuple[Chunk, Manifest]


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
    only: Collection[date] | None = None,
) -> VerifyReport:
    """Follows the whole chain, and takes back every object of the days from the first to the last.

    Args:
        store: The archive.
        source: The table.
        first: The first day.
        last: The last one, included.
        at_once: Objects that are read at once.
        head: A hash that the chain must have come by: proof that its end was not cut off before it.
        only: Of the range, take back these days alone; the others need a manifest all the same.
    """
    report = VerifyReport()
    manifests = _follow(store, source, report)
    if head and head not in {manifest.hash for manifest in manifests}:
        report.problems.append(f"the chain does not hold the manifest {head}: its end is missing")
    standing = stand(manifests)
    report.problems += standing.problems
    report.removed = [each for each in standing.removed if each.first_day <= last and first <= each.last_day]
    report.lingering = _lingering(store, source, standing, first, last)
    about = {day for manifest in manifests for day in _days_of(manifest)}
    report.missing = [day for day in span(first, last) if day not in about]
    report.days = (last - first).days + 1 - len(report.missing)
    wanted = [
        (chunk, manifest)
        for (_, day), (chunk, manifest) in standing.in_force.items()
        if first <= day <= last and (only is None or day in only)
    ]
    wanted.sort(key=lambda each: (each[0].files, each[0].day))  # the days of one object together: it is read once
    failed = _prove(store, source, wanted, at_once, report)
    while failed and (newer := _newer(store, source, report)):
        # Somebody compacted or expired meanwhile: what stands in place of what is gone by now is proven instead.
        manifests += newer
        standing = stand(manifests)
        report.problems += [problem for problem in standing.problems if problem not in report.problems]
        ats = [(chunk.tenant, chunk.day) for (chunk, _), _ in failed]
        parts = [standing.in_force[at] for at in ats if at in standing.in_force]
        failed = _prove(store, source, parts, at_once, report)
    report.problems += [problem for _, problem in failed]
    return report


def _prove(
    store: Store, source: Source, parts: Sequence[_Part], at_once: int, report: VerifyReport
) -> list[tuple[_Part, str]]:
    """Takes all of these back; returns those that are not as they were sealed, and why."""
    failed: list[tuple[_Part, str]] = []
    for group in _groups(parts):
        failed += _take_back(store, source, group, at_once, report)
    return failed


def _newer(store: Store, source: Source, report: VerifyReport) -> list[Manifest]:
    """What was added to the chain since it was followed, which is part of the report from now on."""
    try:
        found = list(chain.follow(store, source.name, report.manifests, report.head))
    except ManifestError:
        return []  # told already, or by the next
    if found:
        report.manifests, report.head = report.manifests + len(found), found[-1].hash
    return found


def _follow(store: Store, source: Source, report: VerifyReport) -> list[Manifest]:
    manifests: list[Manifest] = []
    try:
        manifests.extend(chain.follow(store, source.name))
    except ManifestError as error:
        report.problems.append(str(error))
    for key in chain.beyond_the_end(store, source.name, len(manifests) + bool(report.problems)):
        report.problems.append(f"{key}: a manifest before it is missing")
    report.manifests, report.head = len(manifests), manifests[-1].hash if manifests else ""
    return manifests


def _lingering(store: Store, source: Source, standing: Standing, first: date, last: date) -> list[str]:
    """A store that is away says so when the objects are read; here only what it lists counts."""
    gone = {key for key in standing.gone if first.replace(day=1) <= chain.day_of_key(key) <= last}
    found: list[str] = []
    for tenant in sorted({chain.tenant_of_key(key) for key in gone}):
        found += sorted(gone.intersection(store.keys(chain.tenant_prefix(source.name, tenant))))
    return found


def _days_of(manifest: Manifest) -> list[date]:
    return list(span(manifest.first_day, manifest.last_day)) if manifest.kind is ManifestKind.DAY else []


def _groups(wanted: Sequence[_Part]) -> list[list[_Part]]:
    groups: list[list[_Part]] = []
    size = _BYTES_AT_ONCE
    known: set[str] = set()
    for part in wanted:
        files = [file for file in _files([part]) if file.key not in known]
        if files and (size >= _BYTES_AT_ONCE or len(groups[-1]) >= _CHUNKS_AT_ONCE):
            groups.append([])
            size, known = 0, set()
        groups[-1].append(part)
        size += sum(file.size for file in files)
        known.update(part[0].files)
    return groups


def _files(parts: Sequence[_Part]) -> list[DataFile]:
    found: dict[str, DataFile] = {}
    for chunk, manifest in parts:
        known = {file.key: file for file in manifest.files}
        found |= {key: known[key] for key in chunk.files}
    return list(found.values())


def _take_back(
    store: Store, source: Source, parts: Sequence[_Part], at_once: int, report: VerifyReport
) -> list[tuple[_Part, str]]:
    files = _files(parts)
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
