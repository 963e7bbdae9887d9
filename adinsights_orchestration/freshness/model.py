"""Freshness' vocabulary: the states of a connection, what is known of it, and what was concluded.

Belongs here: immutable values. Does not belong here: the conclusion itself (`evaluate`), reading and keeping (`facts`,
`states`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from adinsights_orchestration.tenants.model import Provider, Schedule, ScheduleType, Standing


class Freshness(StrEnum):
    """How fresh a connection is, in the runbook's words.

    `OK`: what was due is here. `PENDING`: nothing was due yet. `FAILING`: the last attempt failed, its deadline has not
    passed. `RUNNING_STALE`: a sync runs far beyond its history. `STALE`: past its deadline without a success.
    `NO_RECENT_SYNC`: past its first deadline and never synced. `PAUSED`, `MANUAL`, `MISCONFIGURED`: nothing is due.
    """

    OK = "ok"
    PENDING = "pending"
    FAILING = "failing"
    RUNNING_STALE = "running_stale"
    STALE = "stale"
    NO_RECENT_SYNC = "no_recent_sync"
    PAUSED = "paused"
    MANUAL = "manual"
    MISCONFIGURED = "misconfigured"

    @property
    def is_late(self) -> bool:
        """Whether something that was due is not here."""
        return self in (Freshness.STALE, Freshness.NO_RECENT_SYNC)

    @property
    def is_driven(self) -> bool:
        """Whether something is due of a connection in this state at all."""
        return self not in (Freshness.PAUSED, Freshness.MANUAL, Freshness.MISCONFIGURED)

    @property
    def passes(self) -> bool:
        """Whether the `freshness` check is green: it speaks of age, the `sync` check of the last attempt."""
        return not self.is_late and self is not Freshness.MISCONFIGURED

    @property
    def rank(self) -> int:
        """The order of badness, for sorting and for `never worse`."""
        return _RANKS[self]


_RANKS = {
    Freshness.OK: 0,
    Freshness.PENDING: 0,
    Freshness.PAUSED: 0,
    Freshness.MANUAL: 0,
    Freshness.FAILING: 1,
    Freshness.RUNNING_STALE: 2,
    Freshness.MISCONFIGURED: 3,
    Freshness.STALE: 4,
    Freshness.NO_RECENT_SYNC: 4,
}


@dataclass(frozen=True, slots=True)
class Expectation:
    """What may be expected of a connection.

    Attributes:
        standing: Only active connections are ever late.
        schedule: When it is due.
        timezone: In which cron is read.
        connection_id: Airbyte's; places an interval schedule's slots.
        max_age: The age of the last success from which the connection may be late at all.
        problem: Why it is misconfigured, where it is.
    """

    standing: Standing
    schedule: Schedule
    timezone: str
    connection_id: UUID
    max_age: timedelta
    problem: str | None = None

    @property
    def digest(self) -> str:
        """The expectation in one line: two that are equal have the same."""
        kind = self.schedule.type
        when = self.schedule.cron if kind is ScheduleType.CRON else self.schedule.interval
        placed = self.connection_id if kind is ScheduleType.INTERVAL else ""
        age = f"{self.max_age.total_seconds():g}s"
        return "|".join(str(part) for part in (self.standing, kind, when, self.timezone, placed, age))


@dataclass(frozen=True, slots=True)
class Facts:
    """What the ledger knows of a connection's syncs; jobs that clear data are not among them.

    Attributes:
        partition_key: Its partition.
        provider: Its provider.
        tenant_id: Its tenant.
        last_success_at: End of the newest sync that succeeded. An end is never later than when it was first seen to be
            over, so that a server whose clock is ahead makes nothing look fresh.
        last_job_id: The newest sync that is over.
        last_job_status: How it ended.
        last_job_reason: Why it failed, in Airbyte's words.
        last_job_ended_at: When it ended.
        running_since: Start of a sync that runs.
        failures: Failed syncs since the last success.
        usual_seconds: The 95th percentile of its own durations; None while there is no history.
        materialized_job: The newest sync that Dagster was told of as a materialization.
    """

    partition_key: str
    provider: Provider
    tenant_id: UUID
    last_success_at: datetime | None = None
    last_job_id: int | None = None
    last_job_status: str | None = None
    last_job_reason: str | None = None
    last_job_ended_at: datetime | None = None
    running_since: datetime | None = None
    failures: int = 0
    usual_seconds: float | None = None
    materialized_job: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from the facts at one moment.

    Attributes:
        state: The state.
        detail: Why, in one line for people; says no age, so that it holds as long as the state does.
        valid_until: From when the state may be another without any news; None where that is never.
        deadline: From when the connection is late unless a sync succeeds; None where nothing is due.
    """

    state: Freshness
    detail: str
    valid_until: datetime | None = None
    deadline: datetime | None = None


@dataclass(frozen=True, slots=True)
class ConnectionState:
    """A connection's freshness as it is kept: the facts, what followed from them, and since when.

    Attributes:
        facts: The facts that it was concluded from.
        verdict: The conclusion.
        since: Since when the state is this one.
        expectation: What was expected, as `Expectation.digest`.
        expected_since: Since when that is expected.
        shown_job: The sync up to which Dagster's check was written; see `Facts.materialized_job`.
        shown_state: The state that was written there.
    """

    facts: Facts
    verdict: Verdict
    since: datetime
    expectation: str
    expected_since: datetime
    shown_job: int | None = field(default=None, compare=False)
    shown_state: str | None = field(default=None, compare=False)
