"""Airbyte's own scheduler: it starts connections by the schedules that Airbyte holds.

Belongs here: what is due. Does not belong here: the backend's schedules, which Celery or the orchestrator follow. It
is off in the local stack unless asked for: exactly one driver may start syncs.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from adinsights_orchestration.local.airbyte.model import (
    AirbyteConnection,
    AirbyteSchedule,
    AlreadyRunningError,
    ConfigType,
    ConnectionStatus,
    Job,
)
from adinsights_orchestration.local.airbyte.world import AirbyteWorld

_UNITS = {
    "minutes": timedelta(minutes=1),
    "hours": timedelta(hours=1),
    "days": timedelta(days=1),
    "weeks": timedelta(weeks=1),
    "months": timedelta(days=30),
}
_QUARTZ_FIELDS = 6
_POLL_SECONDS = 5.0


@dataclass
class Scheduler:
    """Starts what is due, as long as the server runs."""

    world: AirbyteWorld

    async def run(self) -> None:
        """Looks every few seconds, until cancelled."""
        while True:
            run_schedules(self.world, self.world.clock())
            await asyncio.sleep(_POLL_SECONDS)


def run_schedules(world: AirbyteWorld, now: datetime) -> list[Job]:
    """Starts every active connection that is due at `now`; returns the jobs it started."""
    started = []
    for connection in world.resources.connections():
        if connection.status is ConnectionStatus.ACTIVE and _due(world, connection, now):
            try:
                started.append(world.start(connection.id, ConfigType.SYNC))
            except AlreadyRunningError:
                continue
    return started


def next_run(schedule: AirbyteSchedule, after: datetime) -> datetime | None:
    """When a schedule next starts a sync after a moment; None for a manual or unreadable one."""
    if schedule.kind == "basic":
        return after + schedule.units * _UNITS[schedule.time_unit]
    if schedule.kind != "cron":
        return None
    try:
        return next(CronSim(_five_fields(schedule.cron_expression), after.astimezone(ZoneInfo(schedule.cron_timezone))))
    except (CronSimError, StopIteration, KeyError):
        return None


def _due(world: AirbyteWorld, connection: AirbyteConnection, now: datetime) -> bool:
    jobs = world.jobs.of_connection(connection.id)
    if not jobs and connection.schedule.kind == "basic":
        return True
    last = jobs[-1].created_at if jobs else connection.created_at
    due = next_run(connection.schedule, last)
    return due is not None and due <= now


def _five_fields(expression: str) -> str:
    """Quartz, which Airbyte takes, has seconds in front and writes `?` for any day."""
    fields = expression.replace("?", "*").split()
    return " ".join(fields[1:6] if len(fields) >= _QUARTZ_FIELDS else fields)
