"""Mending: tenants' days whose objects are missing or damaged, written anew from the table where it still has the rows.

Belongs here: finding them, and which of them the table can mend. Does not belong here: writing (`archive.sealing`).
Archiving a day again leaves alone what has not changed in the table, so damage in the store does not heal by it: it
must be said which tenants' days are to be written anew. The table may stand in only for a day of which it holds exactly
what was sealed; of every other one the damaged object is the only witness, and a copy of it must be found.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum

from adinsights_orchestration.audit_log.archive.run import Archiver
from adinsights_orchestration.audit_log.bookkeeping.ledger import InForce
from adinsights_orchestration.audit_log.leaving.removing import Archive
from adinsights_orchestration.audit_log.model import At, Chunk, State
from adinsights_orchestration.audit_log.reading.reader import ContentError, unreadable
from adinsights_orchestration.audit_log.source import SourceError
from adinsights_orchestration.audit_log.store.contract import Store


class Witness(StrEnum):
    """Who else than the damaged object holds the rows."""

    TABLE = "the table holds them as they were sealed"
    NOBODY = "the table does not hold them any more: bring the object back from a copy"
    CHANGED = "the table holds something else by now: bring the object back from a copy"


@dataclass(frozen=True, slots=True)
class Damage:
    """A tenant's day whose object is damaged.

    Attributes:
        at: Which.
        problem: What is wrong, with the object's key.
        witness: Who else holds the rows.
        rows: How many they are.
    """

    at: At
    problem: str
    witness: Witness
    rows: int


@dataclass(slots=True)
class MendingReport:
    """What was found, and done.

    Attributes:
        dry_run: Nothing was done.
        objects: Objects that were read.
        damages: What was found.
        mended: Tenants' days that are whole again.
    """

    dry_run: bool
    objects: int = 0
    damages: dict[At, Damage] = field(default_factory=dict)
    mended: list[At] = field(default_factory=list)

    @property
    def left(self) -> list[Damage]:
        """What is damaged still."""
        return [damage for at, damage in sorted(self.damages.items()) if at not in self.mended]


def mend(archive: Archive, first: date, last: date, *, apply: bool) -> MendingReport:
    """Finds what is damaged of a range of days, and writes anew what the table can mend.

    Raises:
        RemovalError: The chain itself is not in order.
        ArchiveError: Somebody else archives at this moment.
    """
    store = archive.store
    report = MendingReport(not apply)
    _find(archive, store, (first, last), report)
    by_day: dict[date, list[At]] = {}
    for at, damage in report.damages.items():
        if damage.witness is Witness.TABLE:
            by_day.setdefault(at[1], []).append(at)
    if apply:
        archiver = Archiver(archive.settings, archive.ops, archive.source, store, archive.clock)
        for day, mendable in sorted(by_day.items()):
            try:
                archiver.run(day, day, actor=archive.actor, run_id=archive.run_id, anew=mendable)
            except (ContentError, SourceError):  # of which the table holds something else after all
                continue
        _look_again(archive, store, (first, last), report)
    return report


def _look_again(archive: Archive, store: Store, days: tuple[date, date], report: MendingReport) -> None:
    """Mended is what is whole when it is read once more."""
    after = MendingReport(dry_run=False)
    _find(archive, store, days, after)
    report.mended = sorted(set(report.damages) - set(after.damages))
    for at, damage in after.damages.items():
        witness = Witness.CHANGED if damage.witness is Witness.TABLE else damage.witness
        report.damages[at] = Damage(at, damage.problem, witness, damage.rows)


def _find(archive: Archive, store: Store, days: tuple[date, date], report: MendingReport) -> None:
    def wanted(at: At) -> bool:
        return days[0] <= at[1] <= days[1]

    standing = archive.read(store, wanted)
    while True:
        chunks = standing.in_force
        files = {key: standing.files[key] for chunk in chunks.values() for key in chunk.files}
        wrong = unreadable(store, list(files.values()), archive.settings.audit_log.at_once)
        if not wrong:
            break
        # What somebody compacted, erased or expired meanwhile is missing, and not damaged.
        standing = archive.read(store, wanted)
        if standing.in_force == chunks:
            break
    report.objects = len(files)
    known = archive.ledger.in_force(*days) if wrong else {}
    for at, chunk in chunks.items():
        if bad := [key for key in chunk.files if key in wrong]:
            report.damages[at] = Damage(at, wrong[bad[0]], _witness(chunk, known.get(at)), chunk.rows)


def _witness(chunk: Chunk, known: InForce | None) -> Witness:
    """By the ledger; whether the table still has it so, the archiver finds out when it reads it."""
    if known is None or known.state is not State.SEALED or not known.left.rows:
        return Witness.NOBODY
    return Witness.TABLE if known.left.rows == chunk.rows else Witness.CHANGED
