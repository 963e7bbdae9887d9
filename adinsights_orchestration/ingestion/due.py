"""When a connection is due: slots of a schedule, and whether the newest one still waits for a sync.

Belongs here: cron and interval arithmetic over plain values. Does not belong here: starting anything (`trigger`),
lateness (freshness). A slot is a moment at which a connection should start; slots that were missed collapse into the
newest, and a sync that anybody started at or after a slot satisfies it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from adinsights_orchestration.ingestion.cron import first_after, last_until, parse_cron
from adinsights_orchestration.tenants.model import Connection, Schedule, ScheduleType, Standing, Tenant

CLOCK_SKEW = timedelta(minutes=1)  # how far Airbyte's clock may be from ours
__all__ = ["IDLE", "Activity", "SlotTable", "Slots", "is_due", "latest_slot", "next_slot", "parse_cron", "slots"]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Slots:
    """The newest slot at or before a moment and the first one after it; None where there is none."""

    latest: datetime | None
    following: datetime | None

    @property
    def gap(self) -> timedelta | None:
        """The time between the two."""
        return None if self.latest is None or self.following is None else self.following - self.latest


@dataclass(frozen=True, slots=True)
class Activity:
    """What is known of a connection's syncs, whoever started them.

    Attributes:
        started_at: Start of its newest sync, on Airbyte's clock.
        planned_slot: The newest slot that a start was already planned for.
        running: Whether a sync of it runs, or is being started.
    """

    started_at: datetime | None = None
    planned_slot: datetime | None = None
    running: bool = False


IDLE = Activity()


def slots(schedule: Schedule, timezone: str, now: datetime, connection_id: UUID) -> Slots:
    """Returns the slots around `now`.

    Args:
        schedule: Manual ones have no slots.
        timezone: IANA name of the tenant's timezone, in which cron is read.
        now: The moment.
        connection_id: Spreads interval schedules: each connection has its own place in the interval, always the same.
    """
    if schedule.type is ScheduleType.INTERVAL and schedule.interval is not None:
        return _interval_slots(schedule.interval, now, connection_id)
    if schedule.type is ScheduleType.CRON and schedule.cron is not None:
        cron = parse_cron(schedule.cron)
        return Slots(last_until(cron, timezone, now), first_after(cron, timezone, now))
    return Slots(None, None)


def latest_slot(schedule: Schedule, timezone: str, now: datetime, connection_id: UUID) -> datetime | None:
    """Returns the newest slot at or before `now`, in UTC."""
    return slots(schedule, timezone, now, connection_id).latest


def next_slot(schedule: Schedule, timezone: str, now: datetime, connection_id: UUID) -> datetime | None:
    """Returns the first slot after `now`, in UTC."""
    return slots(schedule, timezone, now, connection_id).following


def is_due(connection: Connection, tenant: Tenant, activity: Activity, now: datetime) -> datetime | None:
    """Returns the slot for which the connection should start now, or None.

    A running sync is let end first: what it leaves undone is due when it is over.
    """
    if connection.standing is not Standing.ACTIVE:
        return None
    return waiting_slot(slots(connection.schedule, tenant.timezone, now, connection.connection_id), activity)


def waiting_slot(around: Slots, activity: Activity) -> datetime | None:
    """Returns the newest slot if it has no sync yet and none is running, or None."""
    slot = around.latest
    if slot is None or activity.running or satisfied(slot, activity, tolerance(around)):
        return None
    return slot


def satisfied(slot: datetime, activity: Activity, skew: timedelta) -> bool:
    """Whether the slot has its sync: one was planned for it, or one started at or after it, give or take the skew."""
    planned = activity.planned_slot is not None and activity.planned_slot >= slot
    started = activity.started_at is not None and activity.started_at >= slot - skew
    return planned or started


def tolerance(around: Slots) -> timedelta:
    """The clock skew that is allowed for; less for slots so close that one's sync could pass for the next one's."""
    return CLOCK_SKEW if around.gap is None else min(CLOCK_SKEW, around.gap / 4)


class SlotTable:
    """Slots around one moment for many connections: each distinct cron and timezone is computed once."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._crons: dict[tuple[str, str], Slots] = {}

    def of(self, connection: Connection, timezone: str) -> Slots:
        """The connection's slots."""
        schedule = connection.schedule
        if schedule.type is not ScheduleType.CRON or schedule.cron is None:
            return slots(schedule, timezone, self._now, connection.connection_id)
        key = (schedule.cron, timezone)
        if key not in self._crons:
            self._crons[key] = slots(schedule, timezone, self._now, connection.connection_id)
        return self._crons[key]


# ------------------------------------------------------------------------------------------------------------ interval


def _interval_slots(interval: timedelta, now: datetime, connection_id: UUID) -> Slots:
    if interval <= timedelta():
        return Slots(None, None)
    start = _EPOCH + _offset(interval, connection_id)
    latest = start + (now - start) // interval * interval
    return Slots(latest, latest + interval)


def _offset(interval: timedelta, connection_id: UUID) -> timedelta:
    """The connection's own whole second within the interval; the same in every process and release."""
    digest = hashlib.blake2b(connection_id.bytes, digest_size=8).digest()
    return timedelta(seconds=int.from_bytes(digest) % max(int(interval.total_seconds()), 1))
