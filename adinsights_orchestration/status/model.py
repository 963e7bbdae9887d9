"""The whole picture as one value, whose JSON is an interface: `docs/status.md`, `docs/status.schema.json`.

Belongs here: the value's shape. Does not belong here: how it comes about (`rules`), how people see it (`overview`, the
command). Machines read it: a field is never renamed, removed or given another meaning without a new `VERSION`; one that
is added is not a new version.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from adinsights_orchestration.freshness.model import Freshness
from adinsights_orchestration.health.model import Component, Health
from adinsights_orchestration.tenants.model import Provider

VERSION: Literal[1] = 1
UNKNOWN_STATE = "unknown"  # of a connection whose last verdict has run out


class Overall(StrEnum):
    """How everything is, taken together."""

    OK = "ok"
    DEGRADED = "degraded"
    DOWN = "down"

    @property
    def exit_code(self) -> int:
        """The exit code that says it: 0, 1, 2."""
        return (Overall.OK, Overall.DEGRADED, Overall.DOWN).index(self)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class ComponentStatus(_Part):
    """A component of the platform."""

    component: Component
    """Which one."""
    health: Health
    """How it is; `unknown` where there is no reading, or none that is young enough."""
    last_health: Health | None
    """What its newest reading said, however old that is; null where there is none."""
    state: str
    """Its own word for it: `ok`, `stale`, `timeout`; of what is unknown `no_reading`, `old_reading`, `not_watched`,
    `not_known`."""
    detail: str
    """One line for people."""
    watched: bool
    """False where this environment does not look at it (`not_watched`): it is shown, and counts for nothing."""
    since: datetime | None
    """When it came into the health that its newest reading says."""
    last_ok_at: datetime | None
    """Its newest reading that was well."""
    checked_at: datetime | None
    """When its newest reading was taken."""
    age_seconds: float | None
    """How old that is."""
    latency_ms: float | None
    """How long its answer took."""
    value: float | None
    """Its measured figure, where it has one."""
    url: str
    """Its asset in Dagster."""
    runbook: str
    """Its section of the runbook."""


class ConnectionStatus(_Part):
    """One connection."""

    partition: str
    """Its partition key."""
    provider: Provider
    """Its provider."""
    tenant: str
    """Its tenant's slug; its id where the registry does not name it any more."""
    state: str
    """Its freshness, or `unknown` where the last verdict has run out."""
    since: datetime
    """When it came into that state."""
    last_success_at: datetime | None
    """End of its last sync that succeeded; null when there was none."""
    age_seconds: float | None
    """How long ago that was."""
    deadline: datetime | None
    """From when it is late without a success; null where nothing is due."""
    reason: str
    """Why, in one line for people."""
    url: str
    """Its partition in Dagster."""


class FreshnessStatus(_Part):
    """All connections, counted; and the stalest of them."""

    health: Health
    """`degraded` while one is late or misconfigured, `unknown` while the evaluation is not at work."""
    detail: str
    """One line for people."""
    evaluated_at: datetime | None
    """The last evaluation; null before the first."""
    age_seconds: float | None
    """How long ago that was."""
    connections: int
    """How many there are."""
    late: int
    """How many are `stale` or `no_recent_sync`."""
    by_state: dict[str, int]
    """Exact counts; every state is there, and `unknown`."""
    by_provider: dict[Provider, dict[str, int]]
    """Exact counts of each provider that has connections; only states that occur."""
    stalest: tuple[ConnectionStatus, ...]
    """The worst state first, then the oldest success; paused and manual ones are never among them."""
    driven: int
    """How many could be among them: all but the paused and manual ones."""


class RegistryStatus(_Part):
    """Who is served."""

    health: Health
    """`degraded` while its source cannot be read, `unknown` while nobody tries."""
    detail: str
    """One line for people."""
    attempted_at: datetime | None
    """The last time that its source was read."""
    read_at: datetime | None
    """The last time that this worked; what is served is as old."""
    age_seconds: float | None
    """How long ago that was."""
    tenants: int
    """How many are served."""
    problems: int
    """Entries that a person must mend."""
    runbook: str
    """Its section of the runbook."""


class FindingsStatus(_Part):
    """What a person should know, while it is so."""

    open: int
    """How many are open."""
    by_kind: dict[str, int]
    """How many of each kind."""
    oldest_at: datetime | None
    """When the oldest of them was first seen."""


class TopologyStatus(_Part):
    """What monitoring knows of the pipelines location."""

    health: Health
    """`unknown` while there is none; `degraded` while the newest one cannot be read."""
    detail: str
    """One line for people."""
    published_at: datetime | None
    """When its content was first said."""
    confirmed_at: datetime | None
    """The last load of the location that said so."""
    age_seconds: float | None
    """How long ago that was."""
    assets: int
    """How many assets it names."""
    dashboards: int
    """How many of them are dashboards."""


class Status(_Part):
    """How everything is, at one moment."""

    version: Literal[1] = VERSION
    """The version of this shape."""
    as_of: datetime
    """The moment for which it speaks."""
    known_at: datetime | None
    """The last moment of which something is known: `as_of`, but while the ops store does not answer that of the last
    picture in the status file; null where there is none."""
    environment: str
    """`local`, `staging` or `production`."""
    tenant: str | None = None
    """The tenant to which the connections are narrowed; null for all."""
    overall: Overall
    """The conclusion; `docs/status.md` has the rule."""
    reasons: tuple[str, ...]
    """Why it is not `ok`, the gravest first; empty when it is."""
    components: tuple[ComponentStatus, ...]
    """Every component there is, the worst first."""
    freshness: FreshnessStatus
    registry: RegistryStatus
    findings: FindingsStatus
    topology: TopologyStatus


def to_json(status: Status) -> dict[str, Any]:
    """Returns the status as it is printed and kept: fits JSON, moments in ISO 8601 UTC."""
    return status.model_dump(mode="json")


def json_schema() -> dict[str, Any]:
    """Returns the JSON schema of what `to_json` returns."""
    schema = Status.model_json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "adinsights-status-v1", **schema}


FRESHNESS_STATES = (*(state.value for state in Freshness), UNKNOWN_STATE)
