"""What runs unattended where: one enum, one total table.

Belongs here: the environments and, for every schedule and sensor of both locations, whether it exists in each, how
often it runs and how much of it at once. Does not belong here: what they do. `build.py` registers exactly what this
table declares; what it does not declare for an environment does not exist there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class Environment(StrEnum):
    """Where the process runs."""

    LOCAL = "local"
    STAGING = "staging"
    PRODUCTION = "production"


class Automation(StrEnum):
    """Everything that Dagster starts by itself: by the name of its sensor in the UI, or of the job of its schedule."""

    REGISTRY = "registry_refresh"
    TRIGGER = "ingestion_trigger"
    SYNC_NIGHTLY = "sync_nightly"
    START = "ingestion_start"
    OBSERVE = "ingestion_observe"
    BACKEND = "backend_deliver"
    DBT_REFRESH = "dbt_refresh"
    DBT_NIGHTLY = "dbt_nightly"
    DBT_FRESHNESS = "dbt_source_freshness"
    PRUNE = "history_prune"
    RETENTION = "audit_log_retention"
    DEAD_RUNS = "dead_runs"
    FRESHNESS = "freshness_evaluate"
    HEALTH = "health_probe"
    TOPOLOGY = "topology_publish"
    OVERVIEW = "overview_publish"
    ALERT_EVALUATE = "alert_evaluate"
    ALERT_DELIVER = "alert_deliver"
    ARCHIVE = "audit_log_archive"
    EXPIRY = "audit_log_expiry"
    COMPACTION = "audit_log_compaction"

    @property
    def schedule(self) -> str:
        """The name of its schedule in the UI: Dagster wants it apart from the job's, which has the automation's own."""
        return f"{self.value}_{_SCHEDULED[self]}"


_SCHEDULED = {
    Automation.SYNC_NIGHTLY: "plan",
    Automation.DBT_NIGHTLY: "build",
    Automation.DBT_FRESHNESS: "look",
    Automation.PRUNE: "nightly",
    Automation.RETENTION: "nightly",
    Automation.ARCHIVE: "nightly",
    Automation.EXPIRY: "nightly",
    Automation.COMPACTION: "monthly",
}


@dataclass(frozen=True, slots=True)
class Unattended:
    """How one automation runs in one environment.

    Exactly one of `every_seconds` (a sensor's minimum interval) and `cron` (a schedule, in the home timezone) is set.
    `at_once` bounds what it starts, together with what people start of the same: syncs that run in Airbyte, which the
    ops store counts, or runs of its job, which Dagster's run queue holds back. It is None for a sensor that does its
    work in the tick itself: there is nothing to count, and what must not be done twice at once is behind a lock.
    """

    every_seconds: int | None = None
    cron: str | None = None
    at_once: int | None = None
    stack_only: bool = False  # switched on only inside the local stack, so that bare `dagster dev` starts nothing

    def __post_init__(self) -> None:
        if (self.every_seconds is None) == (self.cron is None):
            raise ValueError("an automation runs either every so many seconds or by cron")


def _tick(seconds: int) -> Unattended:
    """A sensor that does its work in the tick."""
    return Unattended(every_seconds=seconds)


def _syncs(seconds: int, at_once: int) -> Unattended:
    """A sensor that starts syncs."""
    return Unattended(every_seconds=seconds, at_once=at_once)


def _runs(*, every: int | None = None, cron: str | None = None, at_once: int = 1) -> Unattended:
    """What starts runs of its job."""
    return Unattended(every_seconds=every, cron=cron, at_once=at_once)


def _in_the_stack(one: Unattended) -> Unattended:
    return replace(one, stack_only=True)


# Runbook: production refreshes every 15 minutes, staging nightly, local is one command on a laptop. A staging whose
# connections synced all day would double the load on the ad platforms' quotas, so there only the night plans syncs, and
# a sensor starts what is planned, tries again what failed, and plans nothing itself.
UNATTENDED: dict[Environment, dict[Automation, Unattended]] = {
    Environment.LOCAL: {
        Automation.REGISTRY: _in_the_stack(_tick(30)),
        Automation.TRIGGER: _in_the_stack(_syncs(15, at_once=2)),
        Automation.OBSERVE: _in_the_stack(_tick(10)),
        Automation.BACKEND: _in_the_stack(_tick(60)),
        Automation.DBT_REFRESH: _in_the_stack(_runs(every=30)),
        Automation.DBT_NIGHTLY: _in_the_stack(_runs(cron="0 3 * * *")),
        Automation.DBT_FRESHNESS: _in_the_stack(_runs(cron="*/30 * * * *")),
        Automation.PRUNE: _in_the_stack(_runs(cron="30 4 * * *")),
        Automation.ARCHIVE: _in_the_stack(_runs(cron="0 4 * * *")),
        Automation.RETENTION: _in_the_stack(_runs(cron="0 5 * * *")),
        Automation.EXPIRY: _in_the_stack(_runs(cron="30 6 * * *")),
        Automation.COMPACTION: _in_the_stack(_runs(cron="0 7 9 * *")),
        Automation.DEAD_RUNS: _in_the_stack(_tick(30)),
        Automation.FRESHNESS: _in_the_stack(_tick(15)),
        Automation.HEALTH: _in_the_stack(_tick(30)),
        Automation.TOPOLOGY: _in_the_stack(_tick(30)),
        Automation.OVERVIEW: _in_the_stack(_tick(30)),
        Automation.ALERT_EVALUATE: _in_the_stack(_tick(15)),
        Automation.ALERT_DELIVER: _in_the_stack(_tick(10)),
    },
    Environment.STAGING: {
        Automation.REGISTRY: _tick(300),
        Automation.SYNC_NIGHTLY: _runs(cron="0 1 * * *"),
        Automation.START: _syncs(60, at_once=5),
        Automation.OBSERVE: _tick(60),
        Automation.BACKEND: _tick(60),
        Automation.DBT_NIGHTLY: _runs(cron="0 3 * * *"),
        Automation.DBT_FRESHNESS: _runs(cron="0 6 * * *"),
        Automation.PRUNE: _runs(cron="30 4 * * *"),
        Automation.ARCHIVE: _runs(cron="0 4 * * *"),
        Automation.RETENTION: _runs(cron="0 5 * * *"),
        Automation.EXPIRY: _runs(cron="30 6 * * *"),  # retention has an hour, and keeps the archive for itself
        Automation.COMPACTION: _runs(cron="0 7 9 * *"),  # a month is settled a week after its end
        Automation.DEAD_RUNS: _tick(60),
        Automation.FRESHNESS: _tick(60),
        Automation.HEALTH: _tick(30),
        Automation.TOPOLOGY: _tick(60),
        Automation.OVERVIEW: _tick(30),
        Automation.ALERT_EVALUATE: _tick(30),
        Automation.ALERT_DELIVER: _tick(10),
    },
    Environment.PRODUCTION: {
        Automation.REGISTRY: _tick(60),
        Automation.TRIGGER: _syncs(30, at_once=20),
        Automation.OBSERVE: _tick(30),
        Automation.BACKEND: _tick(60),
        Automation.DBT_REFRESH: _runs(every=900),
        Automation.DBT_NIGHTLY: _runs(cron="0 3 * * *"),
        Automation.DBT_FRESHNESS: _runs(cron="*/30 * * * *"),  # a quarter of the shortest limit, two hours
        Automation.PRUNE: _runs(cron="30 4 * * *"),
        Automation.ARCHIVE: _runs(cron="0 4 * * *"),
        Automation.RETENTION: _runs(cron="0 5 * * *"),
        Automation.EXPIRY: _runs(cron="30 6 * * *"),  # retention has an hour, and keeps the archive for itself
        Automation.COMPACTION: _runs(cron="0 7 9 * *"),  # a month is settled a week after its end
        Automation.DEAD_RUNS: _tick(60),
        Automation.FRESHNESS: _tick(30),
        Automation.HEALTH: _tick(30),
        Automation.TOPOLOGY: _tick(60),
        Automation.OVERVIEW: _tick(30),
        Automation.ALERT_EVALUATE: _tick(30),
        Automation.ALERT_DELIVER: _tick(10),
    },
}
