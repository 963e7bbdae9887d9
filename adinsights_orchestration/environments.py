"""What runs unattended where: one enum, one total table.

Belongs here: the environments and, for every schedule and sensor of both locations, whether it exists in each, how
often it runs and how many of it at once. Does not belong here: what they do. `build.py` registers exactly what this
table declares; what it does not declare for an environment does not exist there.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Environment(StrEnum):
    """Where the process runs."""

    LOCAL = "local"
    STAGING = "staging"
    PRODUCTION = "production"


class Automation(StrEnum):
    """Everything that Dagster starts by itself, by its name in the UI."""

    REGISTRY = "registry_refresh"
    TRIGGER = "ingestion_trigger"
    SYNC_NIGHTLY = "sync_nightly"
    OBSERVE = "ingestion_observe"
    BACKEND = "backend_deliver"
    DBT_REFRESH = "dbt_refresh"
    DBT_NIGHTLY = "dbt_nightly"
    DBT_FRESHNESS = "dbt_source_freshness"
    PRUNE = "history_prune"


@dataclass(frozen=True, slots=True)
class Unattended:
    """How one automation runs in one environment.

    Exactly one of `every_seconds` (a sensor's minimum interval) and `cron` (a schedule, in the home timezone) is set.
    `at_once` bounds concurrent work: running syncs for the trigger, runs for jobs.
    """

    every_seconds: int | None = None
    cron: str | None = None
    at_once: int = 1
    stack_only: bool = False  # switched on only inside the local stack, so that bare `dagster dev` starts nothing

    def __post_init__(self) -> None:
        if (self.every_seconds is None) == (self.cron is None):
            raise ValueError("an automation runs either every so many seconds or by cron")


def _every(seconds: int, at_once: int = 1) -> Unattended:
    return Unattended(every_seconds=seconds, at_once=at_once)


def _cron(expression: str, at_once: int = 1) -> Unattended:
    return Unattended(cron=expression, at_once=at_once)


def _stack(seconds: int | None = None, cron: str | None = None, at_once: int = 1) -> Unattended:
    return Unattended(every_seconds=seconds, cron=cron, at_once=at_once, stack_only=True)


# Runbook: production refreshes every 15 minutes, staging nightly, local is one command on a laptop. A staging whose
# connections synced all day would double the load on the ad platforms' quotas, so there only the nightly run starts
# syncs.
UNATTENDED: dict[Environment, dict[Automation, Unattended]] = {
    Environment.LOCAL: {
        Automation.REGISTRY: _stack(seconds=30),
        Automation.TRIGGER: _stack(seconds=15, at_once=2),
        Automation.OBSERVE: _stack(seconds=10),
        Automation.BACKEND: _stack(seconds=60),
        Automation.DBT_REFRESH: _stack(seconds=30),
        Automation.DBT_NIGHTLY: _stack(cron="0 3 * * *"),
        Automation.DBT_FRESHNESS: _stack(cron="*/30 * * * *"),
        Automation.PRUNE: _stack(cron="30 4 * * *"),
    },
    Environment.STAGING: {
        Automation.REGISTRY: _every(300),
        Automation.SYNC_NIGHTLY: _cron("0 1 * * *", at_once=5),
        Automation.OBSERVE: _every(60),
        Automation.BACKEND: _every(60),
        Automation.DBT_NIGHTLY: _cron("0 3 * * *"),
        Automation.DBT_FRESHNESS: _cron("0 6 * * *"),
        Automation.PRUNE: _cron("30 4 * * *"),
    },
    Environment.PRODUCTION: {
        Automation.REGISTRY: _every(60),
        Automation.TRIGGER: _every(30, at_once=20),
        Automation.OBSERVE: _every(30),
        Automation.BACKEND: _every(60),
        Automation.DBT_REFRESH: _every(900),
        Automation.DBT_NIGHTLY: _cron("0 3 * * *"),
        Automation.DBT_FRESHNESS: _cron("*/30 * * * *"),  # a quarter of the shortest limit, two hours
        Automation.PRUNE: _cron("30 4 * * *"),
    },
}
