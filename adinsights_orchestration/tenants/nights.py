"""Where connections sync once a night, whatever their own schedules say.

Belongs here: that schedule, for whoever asks when a connection is due: lateness, source freshness, people. Does not
belong here: planning a night's starts (`ingestion.night`). With driver `external` somebody else starts the syncs, at
their own times, and there is no night.
"""

from __future__ import annotations

from dataclasses import dataclass

from adinsights_orchestration.environments import UNATTENDED, Automation
from adinsights_orchestration.settings import Driver, Settings
from adinsights_orchestration.tenants.model import Connection, Schedule, ScheduleType, Standing


@dataclass(frozen=True, slots=True)
class Nightly:
    """The schedule of every active connection, and the timezone in which it is read."""

    schedule: Schedule
    timezone: str


def nightly(settings: Settings) -> Nightly | None:
    """Returns the nights that this environment syncs in; None where it follows the connections' own schedules."""
    night = UNATTENDED[settings.environment].get(Automation.SYNC_NIGHTLY)
    if night is None or settings.ingestion.driver is Driver.EXTERNAL:
        return None
    return Nightly(Schedule(ScheduleType.CRON, cron=str(night.cron)), settings.home_timezone)


def when_due(connection: Connection, timezone: str, nights: Nightly | None) -> tuple[Schedule, str]:
    """Returns the schedule that a connection is due by, and the timezone in which it is read.

    Args:
        connection: One that is not active keeps its own schedule.
        timezone: Its tenant's.
        nights: The environment's.
    """
    if nights is None or connection.standing is not Standing.ACTIVE:
        return connection.schedule, timezone
    return nights.schedule, nights.timezone
