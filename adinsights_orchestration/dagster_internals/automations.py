"""What Dagster keeps of schedules and sensors: whether they are on, and when they ticked.

Belongs here: reading its schedule storage, and its own reading of cron. Does not belong here: which of them should run,
and when one is late (`alerting`). A sensor's last tick stands in its state; a schedule's does not, there only stands up
to when the scheduler has gone through its cron, and that is written about once an hour.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

import dagster as dg
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    ScheduleInstigatorData,
    SensorInstigatorData,
)
from dagster._utils.schedules import schedule_execution_time_iterator

_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Automation:
    """A schedule or sensor that Dagster's daemon has seen, or somebody switched.

    Attributes:
        name: Its name.
        stopped: Whether somebody switched it off.
        last_tick_at: A sensor's last tick; None before the first, and for a schedule (see `last_tick`).
        started_at: When it was switched on, or first seen; None where Dagster does not say.
        passed_at: Up to when the scheduler has done what a schedule's cron asks for, as far as it wrote that down.
        ids: By which its ticks are found.
    """

    name: str
    stopped: bool
    last_tick_at: datetime | None = None
    started_at: datetime | None = None
    passed_at: datetime | None = None
    ids: tuple[str, str] = field(default=("", ""), compare=False, repr=False)

    @property
    def last_sign(self) -> datetime | None:
        """Up to when it is known to have done what it should; None where nothing is known."""
        return max((at for at in (self.last_tick_at, self.started_at, self.passed_at) if at is not None), default=None)


def automations(instance: dg.DagsterInstance) -> dict[str, Automation]:
    """Returns every schedule and sensor that Dagster keeps a state of, by name.

    One that has moved to another code location has two states for a while: the one with the later sign of life counts.
    """
    found = [_automation(state) for state in instance.all_instigator_state()]
    return {one.name: one for one in sorted(found, key=lambda one: one.last_sign or _NEVER)}


def last_tick(instance: dg.DagsterInstance, one: Automation, since: datetime) -> datetime | None:
    """Returns for which moment a schedule ticked last; None where it did not at that moment or later.

    How the tick ended does not matter. One statement that an index bounds, beside what Dagster asks about its tables.
    """
    ticks = instance.get_ticks(*one.ids, after=since.timestamp() - 1, limit=1)
    at = _moment(ticks[0].timestamp) if ticks else None
    return at if at is not None and at >= since else None


def due_after(cron: str, timezone: str, moment: datetime) -> datetime:
    """Returns for which moment a schedule ticks next, as Dagster reads cron.

    Not as `tenants.cron` does: where the clocks go back, Dagster takes the later of the two hours.
    """
    moments = schedule_execution_time_iterator(moment.timestamp(), cron, timezone)
    return next(at.astimezone(UTC) for at in moments if at > moment)


def _automation(state: InstigatorState) -> Automation:
    data, tick, start, passed = state.instigator_data, None, None, None
    if isinstance(data, SensorInstigatorData):
        tick, start = data.last_tick_timestamp, data.last_sensor_start_timestamp
    elif isinstance(data, ScheduleInstigatorData):
        start, passed = data.start_timestamp, data.last_iteration_timestamp
    stopped, ids = state.status is InstigatorStatus.STOPPED, (state.instigator_origin_id, state.selector_id)
    return Automation(state.instigator_name, stopped, _moment(tick), _moment(start), _moment(passed), ids)


def _moment(timestamp: float | None) -> datetime | None:
    return datetime.fromtimestamp(timestamp, UTC) if timestamp else None
