"""Off-boarding: a tenant that has left takes its archive along, and then it is removed.

Belongs here: what of a tenant leaves, the hand-over before it, and doing both. Does not belong here: how something
leaves (`removing`). The archive must be the only place that is left: while the backend serves the tenant, or has rows
of it, nothing is removed. What is younger than a year stays, as the runbook asks, unless somebody says otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, date
from pathlib import Path
from typing import Any
from uuid import UUID

from adinsights_orchestration.audit_log.bookkeeping.standing import Standing
from adinsights_orchestration.audit_log.leaving import preflight
from adinsights_orchestration.audit_log.leaving.expiry import leaving_of, whole_objects
from adinsights_orchestration.audit_log.leaving.removing import Archive, Leaving, RemovalError, Swept, unnamed
from adinsights_orchestration.audit_log.leaving.rewriting import inputs_of, rewrite
from adinsights_orchestration.audit_log.model import At, Cause, Chunk, DataFile
from adinsights_orchestration.audit_log.reading import reader
from adinsights_orchestration.audit_log.reading.proving import verify
from adinsights_orchestration.audit_log.store.contract import Store
from adinsights_orchestration.audit_log.store.folder import Folder
from adinsights_orchestration.audit_log.windows import first_kept_day
from adinsights_orchestration.plan_digest import plan_digest
from adinsights_orchestration.tenants.model import MINIMUM_RETENTION_DAYS
from adinsights_orchestration.tenants.store import load_registry

_LIST = "contents.json"


@dataclass(slots=True)
class OffboardingPlan:
    """What would be done, or was.

    Attributes:
        tenant: Whose.
        rows: Rows that leave, by day.
        kept: Rows that stay for now because they are younger than a year, by day.
        removed: Objects that go.
        obstacles: Why nothing can be done now.
        unknown: The registry does not know the tenant; a legal hold on it would be an entry of its id in the overlay.
        exported: Rows that were handed over, and where to.
        swept: What became of the objects.
    """

    tenant: UUID
    rows: dict[date, int] = field(default_factory=dict)
    kept: dict[date, int] = field(default_factory=dict)
    removed: dict[str, DataFile] = field(default_factory=dict)
    obstacles: list[str] = field(default_factory=list)
    unknown: bool = False
    exported: tuple[int, str] | None = None
    swept: Swept = field(default_factory=Swept)

    @property
    def digest(self) -> str:
        """Names everything that it would do."""
        days = sorted((day.isoformat(), rows) for day, rows in self.rows.items())
        return plan_digest(str(self.tenant), days, sorted(self.removed))


@dataclass(frozen=True, slots=True)
class Offboarding:
    """The off-boarding of one tenant.

    Attributes:
        archive: Where.
        tenant: Whose.
        reason: In somebody's words: the contract's end.
        export: The folder that the archive is handed over in, before anything leaves; None: it is not.
        younger: Also what is younger than a year.
    """

    archive: Archive
    tenant: UUID
    reason: str = ""
    export: Path | None = None
    younger: bool = False

    def plan(self) -> OffboardingPlan:
        """Tells what would leave; changes nothing."""
        store = self.archive.store
        return self._plan(store, self._read(store))[0]

    def apply(self, wanted: str = "") -> OffboardingPlan:
        """Hands over, if that was asked for, and carries out the plan that somebody read.

        Raises:
            PlanChangedError: There is another plan now.
            RemovalError: Something is in the way, or the folder is not empty.
            ContentError: The hand-over is not what was sealed; nothing was removed.
        """
        with self.archive.locked():
            store = self.archive.store
            standing = self._read(store)
            plan, leaving = self._plan(store, standing)
            preflight.require(plan.digest, wanted, plan.obstacles)
            with self.archive.journalled(Cause.OFFBOARDED) as (run, summary):
                if self.export is not None:
                    plan.exported = (
                        hand_over(self.archive, store, standing, self.tenant, self.export),
                        str(self.export),
                    )
                    summary["handed_over"] = plan.exported[0]
                for each in leaving:
                    self.archive.bury(store, run, Cause.OFFBOARDED, each, self.reason)
                plan.swept = self.archive.sweep(store)
                summary |= {"removed": plan.swept.removed, "refused": len(plan.swept.refused)}
        return plan

    def _read(self, store: Store) -> Standing:
        return self.archive.read(store, lambda at: at[0] == self.tenant)

    def _plan(self, store: Store, standing: Standing) -> tuple[OffboardingPlan, list[Leaving]]:
        archive, tenant = self.archive, self.tenant
        plan = OffboardingPlan(tenant, obstacles=list(preflight.obstacles(archive, tenant)))
        known = {each.id: each for each in load_registry(archive.ops).tenants}
        plan.unknown = tenant not in known
        if not plan.unknown and not known[tenant].retired:
            plan.obstacles.append("the backend still serves this tenant: it must be removed there first")
        if in_table := preflight.rows_in_table(archive, tenant):
            plan.obstacles.append(f"{in_table:,} rows of it are in the table: the backend must delete them first")
        mine = standing.in_force
        due = self._due(standing, mine)
        plan.rows = {day: mine[tenant, day].rows for _, day in sorted(due)}
        plan.kept = {day: chunk.rows for (_, day), chunk in sorted(mine.items()) if (tenant, day) not in due}
        leaving = leaving_of(standing, due)
        if not plan.kept:
            leaving = _with(leaving, preflight.leftovers(store, archive.source, tenant, standing))
        plan.removed = {file.key: file for each in leaving for file in each.files}
        return plan, leaving

    def _due(self, standing: Standing, mine: Iterable[At]) -> set[At]:
        if self.younger:
            return set(mine)
        kept = first_kept_day(self.archive.clock().astimezone(UTC).date(), MINIMUM_RETENTION_DAYS)
        return whole_objects((at for at in mine if at[1] < kept), standing)


def hand_over(archive: Archive, store: Store, standing: Standing, tenant: UUID, folder: Path) -> int:
    """Writes everything that the archive holds of a tenant to a folder, and proves it there; returns how many rows.

    Args:
        archive: Where from.
        store: Its store.
        standing: What the chain says of this tenant.
        tenant: Whose.
        folder: Where to; empty, or not there yet.

    Raises:
        RemovalError: Something is in the folder already.
        ContentError: An object is damaged, or what was written is not what was sealed.
    """
    if folder.exists() and any(folder.iterdir()):
        raise RemovalError(
            "something is in this folder already", place=str(folder), next_step="Name an empty one, or a new one."
        )
    target = Folder(folder)
    chunks = sorted(standing.in_force.values(), key=lambda chunk: chunk.day)
    keys = {key for chunk in chunks for key in chunk.files}
    written: dict[str, DataFile] = {}
    rows_in_force = _rows_in_force(chunks)
    for each in inputs_of(standing, tenant, keys, standing.users()):
        file = each.file
        if rows_in_force.get(file.key) == file.rows:
            content = reader.fetch(store, file)
        else:  # of a month of which some days were archived anew since: those rows are in another object
            encoded = rewrite(store, archive.source, tenant, [each]).encoded
            if encoded is None:
                continue
            file, content = encoded.file, encoded.content
        name = f"{Path(file.key).parent.name}-{file.sha256[:16]}.parquet"
        target.create(name, content)
        written[each.file.key] = DataFile(name, file.sha256, len(content), file.rows, file.columns)
    handed = [_renamed(chunk, written) for chunk in chunks]
    if handed:
        verify(archive.source, target, handed, list(written.values()), archive.settings.audit_log.at_once)
    target.create(_LIST, _contents(archive, tenant, handed, list(written.values())))
    return sum(chunk.rows for chunk in handed)


def _rows_in_force(chunks: Iterable[Chunk]) -> dict[str, int]:
    """By object, how many rows the days have that lie in it alone; a day of several objects counts for none of them."""
    found: dict[str, int] = {}
    for chunk in chunks:
        if len(chunk.files) == 1:
            found[chunk.files[0]] = found.get(chunk.files[0], 0) + chunk.rows
    return found


def _renamed(chunk: Chunk, written: dict[str, DataFile]) -> Chunk:
    return replace(chunk, files=tuple(written[key].key for key in chunk.files if key in written))


def _contents(archive: Archive, tenant: UUID, chunks: list[Chunk], files: list[DataFile]) -> bytes:
    value: dict[str, Any] = {
        "table": archive.source.table,
        "tenant": str(tenant),
        "written_at": archive.clock().isoformat(),
        "rows": sum(chunk.rows for chunk in chunks),
        "days": {chunk.day.isoformat(): {"rows": chunk.rows, "files": list(chunk.files)} for chunk in chunks},
        "files": {
            file.key: {"sha256": file.sha256, "bytes": file.size, "rows": file.rows, "columns": _columns(file)}
            for file in files
        },
    }
    return json.dumps(value, indent=1).encode()


def _columns(file: DataFile) -> dict[str, str]:
    return {column.name: column.type for column in file.columns}


def _with(leaving: list[Leaving], besides: list[DataFile]) -> list[Leaving]:
    """Objects that no manifest names go with the first; where nothing else leaves, for themselves."""
    if not besides:
        return leaving
    if not leaving:
        return [unnamed(besides)]
    return [replace(leaving[0], files=(*leaving[0].files, *besides)), *leaving[1:]]
