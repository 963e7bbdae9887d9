"""Health's vocabulary: components, the states that they are in, and what a probe saw.

Belongs here: immutable values and what follows from one value alone. Does not belong here: asking anything (`probes`),
keeping anything (`samples`, `states`). A probe never raises for what it may meet in the world: whatever a server
answers, or does not, is a `Reading`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class Component(StrEnum):
    """What is watched; the value names its asset `health/<value>`."""

    FRONTEND = "frontend"
    BACKEND = "backend"
    BACKEND_AIRBYTE = "backend_airbyte"
    BACKEND_DBT = "backend_dbt"
    API = "api"
    DASHBOARDS = "dashboards"
    SUPERSET = "superset"
    AIRBYTE = "airbyte"
    WEBHOOK = "webhook"
    DBT = "dbt"
    WAREHOUSE = "warehouse"
    OBJECT_STORE = "object_store"
    REGISTRY = "registry"
    DAGSTER_DAEMONS = "dagster_daemons"
    CODE_LOCATIONS = "code_locations"
    SCHEDULER = "scheduler"


class Health(StrEnum):
    """How a component is. `UNKNOWN` is no data: it never stands for health, and never ends a failure."""

    OK = "ok"
    DEGRADED = "degraded"
    DOWN = "down"
    UNKNOWN = "unknown"

    @property
    def rank(self) -> int:
        """The order of badness; `UNKNOWN` lies between `OK` and `DEGRADED`."""
        return (Health.OK, Health.UNKNOWN, Health.DEGRADED, Health.DOWN).index(self)


# What was looked at and had nothing to be measured: a quiet night has no error rate, and is no fault.
NOTHING_TO_MEASURE = frozenset({(Component.API, "too_few_requests")})
# A fact of such a reading: it speaks of a whole window, and what little there was in it is not bad either.
QUIET = "quiet"
# A fact of a component that was bad and of which nothing was learnt since: the state in which it was.
LAST_STATE = "last_state"


@dataclass(frozen=True, slots=True)
class Reading:
    """What one probe of one component saw.

    Attributes:
        component: Which one.
        health: What it means, by this reading alone.
        state: The component's own word for it: `ok`, `stale`, `sync_failed`, `timeout`, `html`, `wrong_certificate`.
        detail: One line for people: what was answered, without secrets and personal data.
        at: When the probe ended.
        latency_ms: How long the answer took; None where nothing was asked.
        value: The measured figure, where the component has one (an age in minutes, a rate in percent).
        facts: What machines may want beside: fits JSON.
    """

    component: Component
    health: Health
    state: str
    detail: str
    at: datetime
    latency_ms: float | None = None
    value: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def matter(self) -> str:
        """The state that it is about: while nothing is learnt the last one, or the same trouble would be two."""
        return str(self.facts.get(LAST_STATE, self.state))

    @property
    def is_idle(self) -> bool:
        """Whether it was looked at and there was nothing to be measured, which is no silence."""
        return self.health is Health.UNKNOWN and (self.component, self.state) in NOTHING_TO_MEASURE


@dataclass(frozen=True, slots=True)
class ComponentState:
    """A component as it stands after its readings so far.

    Attributes:
        reading: The newest reading.
        since: When it came into this health.
        last_ok_at: The newest reading that was `OK`; None when there was none.
    """

    reading: Reading
    since: datetime
    last_ok_at: datetime | None
