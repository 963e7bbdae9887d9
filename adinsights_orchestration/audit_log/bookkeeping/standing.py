"""What a whole chain says: what the archive holds now, what has left it and why, and whether that adds up.

Belongs here: reading a chain from its first manifest as a history in which every step must be allowed. Does not belong
here: fetching anything (`chain`, `reading.verify`). Within a chain nothing may become less but by saying so: a day that
is archived anew names every tenant that it had, with no fewer rows; a tombstone says of what is gone exactly what stood
there; other objects for the same rows hold the same content.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from uuid import UUID

from adinsights_orchestration.audit_log.bookkeeping.chain import day_of_key, tenant_of_key
from adinsights_orchestration.audit_log.bookkeeping.manifest import ADVICE, Manifest, ManifestKind
from adinsights_orchestration.audit_log.model import At, Cause, Chunk, DataFile, Gone


@dataclass(frozen=True, slots=True)
class Removed:
    """What one manifest says has left the archive.

    Attributes:
        sequence: The manifest's number.
        cause: Why.
        actor: Who asked.
        at: When.
        reason: In whose words.
        first_day: The first day that lost rows.
        last_day: The last one.
        tenants: Whose.
        rows: How many rows left.
        objects: How many objects were removed, or are to be.
        size: Their bytes.
    """

    sequence: int
    cause: Cause
    actor: str
    at: datetime
    reason: str
    first_day: date
    last_day: date
    tenants: tuple[UUID, ...]
    rows: int
    objects: int
    size: int

    def __str__(self) -> str:
        days = f"{self.first_day}" if self.first_day == self.last_day else f"{self.first_day} to {self.last_day}"
        whose = f"tenant {self.tenants[0]}" if len(self.tenants) == 1 else f"{len(self.tenants)} tenants"
        said = f" ({self.reason})" if self.reason else ""
        return (
            f"{days}: {self.cause.value}, {self.rows:,} rows of {whose} in {self.objects:,} objects, by {self.actor} on"
            f" {self.at:%Y-%m-%d}{said}; manifest {self.sequence}"
        )


@dataclass(slots=True)
class Standing:
    """What a chain says in its end.

    Attributes:
        in_force: What the archive holds of every tenant's day.
        named: Every object that was ever named and is not gone, and the tenants' days that it was named for.
        files: Those objects.
        gone: Objects that must not be there any more, by their key.
        removed: What has left, in order.
        archived: Days of which there is a manifest.
        revisions: The newest revision of every day, of all of its tenants.
        problems: Steps that are not allowed, in words.
    """

    in_force: dict[At, Chunk] = field(default_factory=dict)
    named: dict[str, tuple[At, ...]] = field(default_factory=dict)
    files: dict[str, DataFile] = field(default_factory=dict)
    gone: dict[str, DataFile] = field(default_factory=dict)
    removed: list[Removed] = field(default_factory=list)
    archived: set[date] = field(default_factory=set)
    revisions: dict[date, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def users(self) -> dict[str, set[At]]:
        """Of every object that something in force names, the tenants' days that do."""
        found: dict[str, set[At]] = {}
        for at, chunk in self.in_force.items():
            for key in chunk.files:
                found.setdefault(key, set()).add(at)
        return found

    def with_former_rows(self) -> set[str]:
        """The objects in force that also hold rows of revisions that are in force no longer.

        Nobody needs to look into them: objects that share a tenant's day are taken together, and hold more rows than
        are in force of their days.
        """
        together: dict[str, set[str]] = {}
        for chunk in self.in_force.values():
            merged = set(chunk.files).union(*(together.get(key, ()) for key in chunk.files))
            together |= dict.fromkeys(merged, merged)
        spare = {min(keys): sum(self.files[key].rows for key in keys) for keys in together.values()}
        for chunk in self.in_force.values():
            if chunk.files:
                spare[min(together[chunk.files[0]])] -= chunk.rows
        return {key for key, keys in together.items() if spare[min(keys)]}

    def holders(self) -> dict[str, set[At]]:
        """Of every object, the tenants' days in force that it has rows of, be they in force or of an earlier revision.

        An object that an erasure wrote anew is named for what was in force alone: what else it holds may be of any day
        of its month.
        """
        found = {key: self.in_force.keys() & days for key, days in self.named.items()}
        months: dict[tuple[UUID, date], set[At]] = {}
        for at in self.in_force:
            months.setdefault((at[0], month_of(at[1])), set()).add(at)
        for key in self.with_former_rows():
            found[key] |= months.get((tenant_of_key(key), month_of(day_of_key(key))), set())
        return found

    def left_over(self, leaving: Iterable[At], holders: Mapping[str, set[At]]) -> list[DataFile]:
        """The objects that hold nothing of any day any more once these have left, earlier revisions' included."""
        left = set(leaving)
        return [
            self.files[key]
            for key in sorted(self.named)
            if not left.isdisjoint(self.named[key]) and not holders.get(key, set()) - left
        ]

    def files_of(self, chunk: Chunk) -> tuple[DataFile, ...]:
        """The objects that a chunk in force names; one of which no manifest says what it is is a problem already."""
        return tuple(self.files[key] for key in chunk.files if key in self.files)

    def take_in(self, other: Standing, wanted: Callable[[At], bool]) -> None:
        """Adds what the standing of other months holds, and has lost, of the tenants' days that are wanted."""
        mine = {at: chunk for at, chunk in other.in_force.items() if wanted(at)}
        self.in_force |= mine
        self.revisions |= {day: other.revisions[day] for _, day in mine}
        for key, days in other.named.items():
            if any(map(wanted, days)):
                self.named[key], self.files[key] = days, other.files[key]
        self.gone |= {key: file for key, file in other.gone.items() if wanted((tenant_of_key(key), day_of_key(key)))}

    def next_revision(self, day: date) -> int:
        """The revision that a day gets when it is written anew."""
        return self.revisions.get(day, 0) + 1


@dataclass(slots=True)
class History:
    """What is known after each manifest of a chain, given one by one."""

    standing: Standing = field(default_factory=Standing)
    days: dict[date, set[UUID]] = field(default_factory=dict)

    def take(self, manifest: Manifest) -> None:
        """Goes one manifest on."""
        standing, known = self.standing, self.standing.in_force
        if manifest.kind is ManifestKind.DAY:
            self._require_nothing_forgotten(manifest)
            standing.archived.add(manifest.first_day)
            self._count(manifest.first_day, manifest.revision)
        elif manifest.gone is not None:
            self._require_as_it_was(manifest, manifest.gone)
        else:
            self._wrong(manifest, "says of nothing that it is gone, and is about no day")
        for chunk in manifest.gone.chunks if manifest.gone is not None else ():
            known.pop((chunk.tenant, chunk.day), None)
            self.days.get(chunk.day, set()).discard(chunk.tenant)
        files = {file.key: file for file in manifest.files}
        for chunk in manifest.chunks:
            at = (chunk.tenant, chunk.day)
            known[at] = chunk
            self.days.setdefault(chunk.day, set()).add(chunk.tenant)
            self._count(chunk.day, chunk.revision)
            for key in chunk.files:
                self._name(key, files, at, manifest)
        if manifest.gone is not None:
            self._remove(manifest, manifest.gone)

    def _name(self, key: str, files: Mapping[str, DataFile], at: At, manifest: Manifest) -> None:
        standing = self.standing
        if key not in files:
            self._wrong(manifest, f"names {key} and does not say what it is")
            return
        if not _belongs_to(key, at):
            self._wrong(manifest, f"names {key} for tenant {at[0]} on {at[1]}, whose it cannot be")
        if key in standing.files and not _same_bytes(standing.files[key], files[key]):
            self._wrong(manifest, f"says of {key} that it is another object than it was")
        standing.files[key] = files[key]
        before = standing.named.get(key, ())
        if at not in before:
            standing.named[key] = (*before, at)
        standing.gone.pop(key, None)  # the same content may come again

    def _count(self, day: date, revision: int) -> None:
        self.standing.revisions[day] = max(revision, self.standing.revisions.get(day, 0))

    def _require_nothing_forgotten(self, manifest: Manifest) -> None:
        day = manifest.first_day
        stated = {chunk.tenant: chunk for chunk in manifest.chunks}
        for tenant in sorted(self.days.get(day, set())):
            before = self.standing.in_force[tenant, day]
            after = stated.get(tenant)
            if after is None:
                self._wrong(
                    manifest, f"leaves out tenant {tenant} on {day}, of which no tombstone says that it is gone"
                )
            elif after.rows < before.rows:
                lost = before.rows - after.rows
                self._wrong(manifest, f"has {lost} rows less of tenant {tenant} on {day} and no tombstone says why")

    def _require_as_it_was(self, manifest: Manifest, gone: Gone) -> None:
        known = self.standing.in_force
        buried = {(chunk.tenant, chunk.day): chunk for chunk in gone.chunks}
        for at, chunk in buried.items():
            if known.get(at) != chunk:
                self._wrong(manifest, f"says of tenant {at[0]} on {at[1]} that something else is gone than stood there")
        for chunk in manifest.chunks:
            at = (chunk.tenant, chunk.day)
            before = known.get(at)
            if before is None or (at not in buried and not _same_rows(before, chunk)):
                self._wrong(
                    manifest, f"holds another content of tenant {at[0]} on {at[1]}, and says of none that it is gone"
                )
            elif chunk.rows > before.rows:
                self._wrong(manifest, f"adds rows of tenant {at[0]} on {at[1]}")

    def _remove(self, manifest: Manifest, gone: Gone) -> None:
        standing = self.standing
        needed = self._needed(gone)
        for file in gone.files:
            if file.key in needed:
                self._wrong(manifest, f"says that {file.key} is gone, which is still needed")
                continue
            standing.named.pop(file.key, None)
            standing.files.pop(file.key, None)
            standing.gone[file.key] = file
        standing.removed.append(removed_by(manifest, gone))

    def _needed(self, gone: Gone) -> set[str]:
        """Of the objects that are said to be gone, those that something in force names."""
        found: set[str] = set()
        for file in gone.files:
            for at in self.standing.named.get(file.key, ()):
                if at in self.standing.in_force and file.key in self.standing.in_force[at].files:
                    found.add(file.key)
        return found

    def _wrong(self, manifest: Manifest, what: str) -> None:
        self.standing.problems.append(f"manifest {manifest.sequence} {what}. {ADVICE}")


def _same_rows(before: Chunk, after: Chunk) -> bool:
    return (before.rows, before.portable, before.revision) == (after.rows, after.portable, after.revision)


def _same_bytes(before: DataFile, after: DataFile) -> bool:
    """The columns may be told otherwise: a type may become wider, and no byte change by it."""
    return (before.sha256, before.size, before.rows) == (after.sha256, after.size, after.rows)


def _belongs_to(key: str, at: At) -> bool:
    """Whether the key is one of the tenant's, and of that day or its month: what a month is about stays within it."""
    try:
        return tenant_of_key(key) == at[0] and month_of(day_of_key(key)) == month_of(at[1])
    except (IndexError, ValueError):
        return False


def month_of(day: date) -> date:
    """The first day of its month."""
    return day.replace(day=1)


def removed_by(manifest: Manifest, gone: Gone) -> Removed:
    """What a manifest says has left the archive."""
    stays = {(chunk.tenant, chunk.day): chunk.rows for chunk in manifest.chunks}
    rows = sum(chunk.rows - stays.get((chunk.tenant, chunk.day), 0) for chunk in gone.chunks)
    return Removed(
        sequence=manifest.sequence,
        cause=gone.cause,
        actor=gone.actor,
        at=manifest.written_at,
        reason=manifest.reason,
        first_day=manifest.first_day,
        last_day=manifest.last_day,
        tenants=tuple(sorted({*(chunk.tenant for chunk in gone.chunks), *(tenant_of_key(f.key) for f in gone.files)})),
        rows=rows,
        objects=len(gone.files),
        size=gone.size,
    )
