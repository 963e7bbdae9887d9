"""What a restore did, in counts.

Belongs here: the values. Does not belong here: showing them (`automation`, `cli.audit_restore`). They tell how much,
never what.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from uuid import UUID

from adinsights_orchestration.audit_log.days import ranges
from adinsights_orchestration.audit_log.model import At
from adinsights_orchestration.audit_log.restore.writing import Arrival


@dataclass(slots=True)
class Counts:
    """Rows of some tenants' days: archived, written now, there already, of these changed since; and unlinked."""

    archived: int = 0
    came: int = 0
    there: int = 0
    changed: int = 0
    unlinked: int = 0

    def add(self, arrival: Arrival) -> None:
        """Adds a day's."""
        self.archived += arrival.part.chunk.rows
        self.came += arrival.came
        self.there += arrival.there
        self.changed += arrival.changed
        self.unlinked += arrival.unlinked


@dataclass(slots=True)
class RestoreReport:
    """What a restore did, or would do.

    Attributes:
        into: The table.
        dry_run: Nothing was written: of the counts only `archived` says something.
        run: Its entry in the journal; None for a dry run.
        counts: By tenant and the first day of a month.
        days: Tenants' days that were read, or would be.
        size: Bytes of objects.
        missing: Days of the range that are not archived.
        left: What of the range has left the archive on purpose, in words.
        problems: What could not be restored, and why, in words.
        failed: Those of `problems` that are about one tenant's day, by it.
        hold_until: Until when the rows are kept.
        transactions: How many were needed.
        seconds: How long it took.
    """

    into: str
    dry_run: bool
    run: UUID | None = None
    counts: dict[tuple[UUID, date], Counts] = field(default_factory=lambda: defaultdict(Counts))
    days: int = 0
    size: int = 0
    missing: list[date] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    failed: dict[At, str] = field(default_factory=dict)
    hold_until: datetime | None = None
    transactions: int = 0
    seconds: float = 0.0

    @property
    def total(self) -> Counts:
        """Everything together."""
        total = Counts()
        for each in self.counts.values():
            for name in Counts.__slots__:
                setattr(total, name, getattr(total, name) + getattr(each, name))
        return total

    @property
    def well(self) -> bool:
        """Whether everything that was asked for is there."""
        return not self.problems and not self.missing

    def take(self, arrival: Arrival) -> None:
        """Adds what became of one tenant's day."""
        tenant, day = arrival.at
        if arrival.problem:
            self.problems.append(arrival.problem)
            self.failed[arrival.at] = arrival.problem
        else:
            self.counts[tenant, day.replace(day=1)].add(arrival)

    def forget(self, at: At) -> None:
        """Takes a day's problem back: what is archived of it by now is another object, or nothing."""
        self.problems.remove(self.failed.pop(at))

    def summary(self) -> dict[str, Any]:
        """For the journal: counts, never contents."""
        total = self.total
        return {
            "into": self.into,
            "days": self.days,
            **{name: getattr(total, name) for name in Counts.__slots__},
            "bytes": self.size,
            "missing": [f"{first} to {last}" for first, last in ranges(self.missing)],
            "left_the_archive": len(self.left),
            "problems": len(self.problems),
            "transactions": self.transactions,
            "seconds": round(self.seconds, 3),
        }
