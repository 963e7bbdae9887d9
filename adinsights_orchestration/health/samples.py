"""Readings, counted: a row per component and minute, hour and day.

Belongs here: adding readings to `health_sample` and pruning it. Does not belong here: what a component's standing is
(`states`). A reading is added to its minute, hour and day in one statement, so that rolling up needs no job of its own
and misses nothing; what is counted is the reading itself, not the standing that it led to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from adinsights_orchestration.health.model import Health, Reading
from adinsights_orchestration.ops_store.tables import health_sample

PRUNED_AT_ONCE = 5000  # rows; what is left goes with the next tick


class Resolution(StrEnum):
    """How much time a sample stands for; hours and days begin with UTC's."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"

    def start(self, moment: datetime) -> datetime:
        """The beginning of the time that holds the moment; `moment` is in UTC."""
        minute = moment.replace(second=0, microsecond=0)
        if self is Resolution.MINUTE:
            return minute
        return minute.replace(minute=0) if self is Resolution.HOUR else minute.replace(minute=0, hour=0)


_ADDED = (
    "readings",
    "ok",
    "degraded",
    "down",
    "unknown",
    "latency_sum_ms",
    "latency_count",
    "value_sum",
    "value_count",
)
_LARGEST = ("latency_max_ms", "value_max")


def add(connection: sa.Connection, readings: Iterable[Reading]) -> None:
    """Adds readings, at most one of each component, in one statement."""
    rows = [row for reading in readings for row in _rows(reading)]
    if not rows:
        return
    upsert = insert(health_sample).values(rows)
    changed: dict[str, sa.ColumnElement[Any]] = {name: health_sample.c[name] + upsert.excluded[name] for name in _ADDED}
    # greatest() leaves out what is null.
    changed |= {name: sa.func.greatest(health_sample.c[name], upsert.excluded[name]) for name in _LARGEST}
    connection.execute(upsert.on_conflict_do_update(index_elements=["component", "resolution", "at"], set_=changed))


def prune(connection: sa.Connection, keep: Mapping[Resolution, timedelta], now: datetime) -> int:
    """Deletes the oldest samples beyond what is kept, a bounded number, and returns how many."""
    row = sa.tuple_(health_sample.c.component, health_sample.c.resolution, health_sample.c.at)
    pruned = 0
    for resolution, kept in keep.items():
        old = (
            sa.select(health_sample.c.component, health_sample.c.resolution, health_sample.c.at)
            .where(health_sample.c.resolution == resolution.value, health_sample.c.at < now - kept)
            .order_by(health_sample.c.at)
            .limit(PRUNED_AT_ONCE)
        )
        pruned += connection.execute(sa.delete(health_sample).where(row.in_(old))).rowcount
    return pruned


def _rows(reading: Reading) -> Iterator[dict[str, Any]]:
    counts = {health.value: int(reading.health is health) for health in Health}
    # A figure that rests on too little is shown, and not counted: an hour that holds one is an hour all the same.
    latency, value = reading.latency_ms, reading.value if reading.health is not Health.UNKNOWN else None
    for resolution in Resolution:
        yield {
            "component": reading.component.value,
            "resolution": resolution.value,
            "at": resolution.start(reading.at),
            "readings": 1,
            **counts,
            "latency_sum_ms": latency or 0.0,
            "latency_count": int(latency is not None),
            "latency_max_ms": latency,
            "value_sum": value or 0.0,
            "value_count": int(value is not None),
            "value_max": value,
        }
