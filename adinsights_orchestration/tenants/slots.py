"""When a schedule says that a connection should start: the slots around a moment.

Belongs here: cron and interval arithmetic over plain values. Does not belong here: whether a slot still waits for a
sync (`ingestion.due`), lateness (`freshness`). A slot is a moment at which a connection should start.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from adinsights_orchestration.tenants.cron import first_after, last_until, parse_cron
from adinsights_orchestration.tenants.model import (
    DEFAULT_TIMEZONE,
    Connection,
    Provider,
    Registry,
    Schedule,
    ScheduleType,
    Standing,
)

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


def first_planned(registry: Registry, provider: Provider, after: datetime) -> datetime | None:
    """Returns the first slot after `after` of any of the provider's active connections; None where there is none."""
    timezones = {tenant.id: tenant.timezone for tenant in registry.tenants}
    table = SlotTable(after)
    following = (
        table.of(one, timezones.get(one.tenant_id, DEFAULT_TIMEZONE)).following
        for one in registry.connections
        if one.provider is provider and one.standing is Standing.ACTIVE
    )
    return min((moment for moment in following if moment is not None), default=None)


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
