"""What an archiving run did, in counts.

Belongs here: the values. Does not belong here: showing them (`showing`). They tell how much, never what.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from typing import Any
from uuid import UUID

from adinsights_orchestration.audit_log.model import At


@dataclass(frozen=True, slots=True)
class DayReport:
    """What became of one day.

    Attributes:
        day: The day.
        revision: The revision in force now.
        rows: Rows in the table.
        archived: Rows in the archive.
        size: Bytes in the archive.
        files: Objects.
        changed: Whether this run sealed a new revision.
        late: Rows that an earlier revision did not have.
        vanished: Rows that an earlier revision has and the table has lost, undeleted by us.
        altered: Rows that an earlier revision has with another content, as when the backend empties their user.
    """

    day: date
    revision: int
    rows: int
    archived: int
    size: int
    files: int
    changed: bool
    late: int = 0
    vanished: int = 0
    altered: int = 0


@dataclass(slots=True)
class ArchiveReport:
    """What a run did.

    Attributes:
        run: Its entry in the journal.
        days: Of every day, in order.
        kept: Tenants' days that stay as they were archived, because the table lacks a column by now, and which.
        odd_rows: Rows whose time is null, in the future or before the first day; they are in no day.
        objects: Objects that were written.
        written: Bytes that were written.
        seconds: How long it took.
    """

    run: UUID
    days: list[DayReport] = field(default_factory=list)
    kept: dict[At, str] = field(default_factory=dict)
    odd_rows: int = 0
    objects: int = 0
    written: int = 0
    seconds: float = 0.0

    @property
    def rows(self) -> int:
        """Rows that were read of these days."""
        return sum(day.rows for day in self.days)

    def summary(self) -> dict[str, Any]:
        """For the journal: counts, never contents."""
        return {
            "days": len(self.days),
            "sealed": sum(day.changed for day in self.days),
            "rows": self.rows,
            "late": sum(day.late for day in self.days),
            "vanished": sum(day.vanished for day in self.days),
            "changed": sum(day.altered for day in self.days),
            "kept": len(self.kept),
            "odd_rows": self.odd_rows,
            "objects": self.objects,
            "bytes": self.written,
            "seconds": round(self.seconds, 3),
        }
