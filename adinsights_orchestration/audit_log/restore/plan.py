"""What a restore takes from the archive: which tenants' days, in which portions, and what of the range is not archived.

Belongs here: the choice, as functions of manifests and plain values. Does not belong here: reading objects (`rows`),
writing rows (`target`). A restore is asked for by moments; files hold whole days, so a day at the edge of the range is
read as a whole and written in part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from uuid import UUID

from adinsights_orchestration.audit_log.bookkeeping.manifest import Manifest, ManifestKind, newest
from adinsights_orchestration.audit_log.bookkeeping.standing import Removed, removed_by
from adinsights_orchestration.audit_log.days import span
from adinsights_orchestration.audit_log.model import At, Chunk, DataFile
from adinsights_orchestration.audit_log.source import Column
from adinsights_orchestration.errors import ConfigurationError

# One transaction: about half a second of inserting into a table with three indexes.
MOST_ROWS = 20_000
MOST_BYTES = 8 << 20  # compressed; what is ready to be written is held in memory for this much, three times


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows are asked for.

    Attributes:
        first: From this moment on.
        end: Up to this moment, without it.
        tenants: Of these tenants; empty: of all that the archive has.
    """

    first: datetime
    end: datetime
    tenants: tuple[UUID, ...] = ()

    @property
    def first_day(self) -> date:
        """The first day (UTC) of which there may be rows."""
        return self.first.date()

    @property
    def last_day(self) -> date:
        """The last one."""
        return (self.end - timedelta(microseconds=1)).date()

    def may_cover(self, at: At) -> bool:
        """Whether a tenant's day may have rows that are meant."""
        return (not self.tenants or at[0] in self.tenants) and self.first_day <= at[1] <= self.last_day

    def covers(self, chunk: Chunk) -> bool:
        """Whether some of the chunk's rows are meant."""
        mine = not self.tenants or chunk.tenant in self.tenants
        return mine and chunk.latest >= self.first and chunk.earliest < self.end

    def covers_all(self, chunk: Chunk) -> bool:
        """Whether all of them are."""
        return self.first <= chunk.earliest and chunk.latest < self.end


@dataclass(frozen=True, slots=True)
class Part:
    """One tenant's day that is to be brought back.

    Attributes:
        chunk: What the archive says of it.
        files: The objects that hold it.
        whole: Whether all of its rows are meant.
    """

    chunk: Chunk
    files: tuple[DataFile, ...]
    whole: bool

    @property
    def schemas(self) -> tuple[tuple[Column, ...], ...]:
        """The columns of its files; several where a column was added between two revisions."""
        return tuple(dict.fromkeys(file.columns for file in self.files))


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done.

    Attributes:
        parts: In the order in which it is done: tenant after tenant, day after day.
        missing: Days of the range that no manifest is about.
        left: What of the range was removed from the archive on purpose, in words.
        tenants: Everybody of whom the manifests that were read tell.
        absent: Those who were asked for and of whom the archive has nothing in the range, nor had until it left.
    """

    parts: tuple[Part, ...]
    missing: tuple[date, ...]
    left: tuple[str, ...]
    tenants: tuple[UUID, ...]
    absent: tuple[UUID, ...] = ()

    @property
    def rows(self) -> int:
        """Rows that are read; of days at the edge more than are written."""
        return sum(part.chunk.rows for part in self.parts)

    @property
    def size(self) -> int:
        """Bytes that are read."""
        return sum(file.size for file in {file.key: file for part in self.parts for file in part.files}.values())

    @property
    def columns(self) -> tuple[Column, ...]:
        """Every column that a file has, the newest type of each."""
        found: dict[str, Column] = {}
        for part in sorted(self.parts, key=lambda each: each.chunk.day):
            for schema in part.schemas:
                found |= {column.name: column for column in schema}
        return tuple(found.values())


def plan(manifests: Iterable[Manifest], wanted: Wanted) -> Plan:
    """Chooses what is in force of the range; of manifests that come one by one, nothing else is kept."""
    about: set[date] = set()
    left: list[str] = []
    tenants: set[UUID] = set()
    found: set[UUID] = set()

    def looked_at() -> Iterator[Manifest]:
        for manifest in manifests:
            if manifest.kind is ManifestKind.DAY:
                about.update(span(manifest.first_day, manifest.last_day))
            if manifest.gone is not None and _means(wanted, removed := removed_by(manifest, manifest.gone)):
                left.append(str(removed))
                found.update(removed.tenants)
            tenants.update(chunk.tenant for chunk in manifest.chunks)
            yield manifest

    parts = []
    for chunk, manifest in newest(looked_at(), wanted.may_cover).values():
        if wanted.covers(chunk):
            known = {file.key: file for file in manifest.files}
            parts.append(Part(chunk, tuple(known[key] for key in chunk.files), wanted.covers_all(chunk)))
            found.add(chunk.tenant)
    parts.sort(key=lambda part: (part.chunk.tenant, part.chunk.day))
    missing = tuple(day for day in span(wanted.first_day, wanted.last_day) if day not in about)
    absent = tuple(sorted(set(wanted.tenants) - found))
    return Plan(tuple(parts), missing, tuple(left), tuple(sorted(tenants)), absent)


def _means(wanted: Wanted, removed: Removed) -> bool:
    """Whether rows that are asked for were removed from the archive on purpose: they do not come back."""
    within = removed.first_day <= wanted.last_day and wanted.first_day <= removed.last_day
    whose = not wanted.tenants or not set(wanted.tenants).isdisjoint(removed.tenants)
    return bool(removed.rows) and within and whose


def portions(parts: Iterable[Part], *, per_tenant: bool) -> Iterator[tuple[Part, ...]]:
    """The parts in transactions: of one tenant each where row level security wants it; a day is never split."""
    portion: list[Part] = []
    rows = size = 0
    known: set[str] = set()
    for part in parts:
        its_size = sum(file.size for file in part.files if file.key not in known)
        full = rows + part.chunk.rows > MOST_ROWS or size + its_size > MOST_BYTES
        if portion and (full or (per_tenant and portion[-1].chunk.tenant != part.chunk.tenant)):
            yield tuple(portion)
            portion, rows, size, known = [], 0, 0, set()
            its_size = sum(file.size for file in part.files)
        known.update(file.key for file in part.files)
        portion.append(part)
        rows, size = rows + part.chunk.rows, size + its_size
    if portion:
        yield tuple(portion)


def tenant_of(text: str, place: str) -> UUID:
    """The tenant that a person wrote.

    Raises:
        ConfigurationError: It is no id.
    """
    try:
        return UUID(text)
    except ValueError:
        raise ConfigurationError(
            f"{text!r} is no tenant's id", place=place, next_step="`adinsights registry show` lists them."
        ) from None
