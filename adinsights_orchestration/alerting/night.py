"""The night: from when to when the nightly pipeline has to be through.

Belongs here: from a moment to the night that is in question, pure. Does not belong here: what the night did
(`history`), what is told of it (`rules`). Until the next night is due, the one before it counts: what a night left
undone is not over at midnight.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

from adinsights_orchestration.freshness.sla import LocalTime, SlaTable


@dataclass(frozen=True, slots=True)
class Night:
    """One night, in the SLA table's timezone.

    Attributes:
        begins: Midnight.
        done_by: When the pipeline is to be through.
        rows_by: When the dashboards are to have rows of this night.
    """

    begins: datetime
    done_by: datetime
    rows_by: datetime


def night_at(now: datetime, sla: SlaTable) -> Night:
    """Returns the newest night whose pipeline is to be through by now."""
    zone = ZoneInfo(sla.timezone)
    local = now.astimezone(zone)
    done_by, rows_by = sla.local_times[LocalTime.NIGHTLY_DONE_BY], sla.local_times[LocalTime.FRESH_ROWS_BY]
    day = local.date() if local.time() >= done_by else local.date() - timedelta(days=1)
    return Night(*(datetime.combine(day, at, zone) for at in (time(), done_by, rows_by)))
