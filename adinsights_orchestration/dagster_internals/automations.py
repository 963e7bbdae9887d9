"""What Dagster keeps of schedules and sensors: whether they are on, when they ticked, and how that ended.

Belongs here: reading its schedule storage, and its own reading of cron. Does not belong here: which of them should run,
and when one is late (`alerting`). A sensor's last tick stands in its state; a schedule's does not, there only stands up
to when the scheduler has gone through its cron, and that is written about once an hour. How a tick ended stands in the
tick alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import dagster as dg
import sqlalchemy as sa
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    ScheduleInstigatorData,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster._core.storage.schedules.schema import InstigatorsTable, JobTickTable
from dagster._core.storage.schedules.sql_schedule_storage import SqlScheduleStorage
from dagster._serdes import deserialize_value
from dagster._utils.schedules import schedule_execution_time_iterator
from dagster_shared.error import SerializableErrorInfo

_NEVER = datetime(1970, 1, 1, tzinfo=UTC)
_TICK = JobTickTable.c
_GOOD = (TickStatus.SUCCESS.value, TickStatus.SKIPPED.value)
_BAD = TickStatus.FAILURE.value
# Dagster's own errors around what our code raised.
_AROUND = frozenset(("SensorExecutionError", "ScheduleExecutionError", "RunStatusSensorExecutionError"))


@dataclass(frozen=True, slots=True)
class Automation:
    """A schedule or sensor that Dagster's daemon has seen, or somebody switched.

    Attributes:
        name: Its name.
        stopped: Whether somebody switched it off.
        last_tick_at: A sensor's last tick; None before the first, and for a schedule (see `newest_ticks`).
        started_at: When it was switched on, or first seen; None where Dagster does not say.
        passed_at: Up to when the scheduler has done what a schedule's cron asks for, as far as it wrote that down.
        location: The code location that has it.
        selector: By which its ticks are found.
    """

    name: str
    stopped: bool
    last_tick_at: datetime | None = None
    started_at: datetime | None = None
    passed_at: datetime | None = None
    location: str = field(default="", compare=False)
    selector: str = field(default="", compare=False, repr=False)

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


@dataclass(frozen=True, slots=True)
class Tick:
    """How a schedule or sensor ticked last.

    Attributes:
        at: When; of a schedule the moment that it ticked for, however often it was tried.
        failed: Whether it failed, and every one since a good one.
        error: What was raised, in one line; empty where that was not kept.
    """

    at: datetime
    failed: bool = False
    error: str = ""


def newest_ticks(instance: dg.DagsterInstance, of: Iterable[Automation]) -> dict[str, Tick]:
    """Returns the newest tick of each of them that has ended, by name, in one statement.

    What never ticked is not in it, and a tick that is under way says nothing yet. Whether all have failed since a good
    one is Dagster's own count: a tick that died with its daemon is called skipped later, and keeps it.
    """
    names = {one.selector: one.name for one in of if one.selector}
    if not names:
        return {}
    storage = instance.schedule_storage
    assert isinstance(storage, SqlScheduleStorage)
    with storage.connect() as connection:
        rows = connection.execute(_newest(names)).all()
    return {names[selector]: _tick(deserialize_value(body, TickData)) for selector, body in rows}


def failing_since(instance: dg.DagsterInstance, one: Automation) -> datetime | None:
    """Returns when the first tick failed after which none was good; None where the newest one is, or there is none."""
    storage = instance.schedule_storage
    assert isinstance(storage, SqlScheduleStorage)
    own = _TICK.selector_id == one.selector
    good = sa.select(sa.func.max(_TICK.timestamp)).where(own, _TICK.status.in_(_GOOD)).scalar_subquery()
    after = _TICK.timestamp > sa.func.coalesce(good, _NEVER.replace(tzinfo=None))
    with storage.connect() as connection:
        at = connection.execute(
            sa.select(sa.func.min(_TICK.timestamp)).where(own, _TICK.status == _BAD, after)
        ).scalar()
    return at.replace(tzinfo=UTC) if at is not None else None


def due_after(cron: str, timezone: str, moment: datetime) -> datetime:
    """Returns for which moment a schedule ticks next, as Dagster reads cron.

    Not as `tenants.cron` does: where the clocks go back, Dagster takes the later of the two hours.
    """
    moments = schedule_execution_time_iterator(moment.timestamp(), cron, timezone)
    return next(at.astimezone(UTC) for at in moments if at > moment)


def _newest(selectors: Iterable[str]) -> sa.Select[tuple[str, str]]:
    """Each one's newest tick that has ended, by the index on their moments."""
    of, inner = InstigatorsTable.c, JobTickTable.alias()
    newest = (
        sa.select(inner.c.id)
        .where(inner.c.selector_id == of.selector_id, inner.c.status.in_((*_GOOD, _BAD)))
        .order_by(inner.c.timestamp.desc())
        .limit(1)
        .correlate(InstigatorsTable)
        .scalar_subquery()
    )
    ids = sa.select(newest).where(of.selector_id.in_(list(selectors)))
    return sa.select(_TICK.selector_id, _TICK.tick_body).where(_TICK.id.in_(ids))


def _tick(data: TickData) -> Tick:
    at = datetime.fromtimestamp(data.timestamp, UTC)
    return Tick(at, data.status is TickStatus.FAILURE or data.consecutive_failure_count > 0, _said(data.error))


def _said(error: SerializableErrorInfo | None) -> str:
    while error is not None and error.cause is not None and error.cls_name in _AROUND:
        error = error.cause
    return next(iter((error.message if error is not None else "").strip().splitlines()), "")


def _automation(state: InstigatorState) -> Automation:
    data, tick, start, passed = state.instigator_data, None, None, None
    if isinstance(data, SensorInstigatorData):
        tick, start = data.last_tick_timestamp, data.last_sensor_start_timestamp
    elif isinstance(data, ScheduleInstigatorData):
        start, passed = data.start_timestamp, data.last_iteration_timestamp
    stopped, origin = state.status is InstigatorStatus.STOPPED, state.origin.repository_origin.code_location_origin
    at = (_moment(tick), _moment(start), _moment(passed))
    return Automation(state.instigator_name, stopped, *at, origin.location_name, state.selector_id)


def _moment(timestamp: float | None) -> datetime | None:
    return datetime.fromtimestamp(timestamp, UTC) if timestamp else None
