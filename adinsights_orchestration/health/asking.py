"""What every probe is given, and how it says what it saw.

Belongs here: the probes' shared context and the making of readings. Does not belong here: any one component.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import dagster as dg

from adinsights_orchestration.clock import Clock
from adinsights_orchestration.freshness.sla import Sla, SlaTable
from adinsights_orchestration.health.model import Component, Health, Reading
from adinsights_orchestration.health.recorded import Recorded
from adinsights_orchestration.health.web import Reply, Trouble, Web, json_of, one_line
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings

_OK_STATUS = 200


@dataclass(frozen=True, slots=True)
class Asking:
    """What probes ask with.

    Attributes:
        settings: Addresses, keys, deadlines.
        sla: Thresholds.
        web: HTTP.
        store: The ops store, for what only one probe needs.
        recorded: What the ops store knew at the beginning of the tick.
        clock: The time.
        instance: Dagster's instance.
        memory: What probes remember until the next tick, each under its own name; they may change it.
    """

    settings: Settings
    sla: SlaTable
    web: Web
    store: OpsStore
    recorded: Recorded
    clock: Clock
    instance: dg.DagsterInstance
    memory: dict[str, Any] = field(default_factory=dict)

    @property
    def timeout_seconds(self) -> float:
        """How long one probe may take."""
        return self.settings.health.probe_timeout_seconds

    def reading(
        self,
        component: Component,
        health: Health,
        state: str,
        detail: str,
        *,
        latency_ms: float | None = None,
        value: float | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> Reading:
        """A reading of this moment."""
        rounded = round(latency_ms, 1) if latency_ms is not None else None
        return Reading(component, health, state, one_line(detail), self.clock(), rounded, value, facts or {})

    def down(self, component: Component, trouble: Trouble) -> Reading:
        """No answer, or none that can be read."""
        facts = {"http_status": trouble.status} if trouble.status is not None else {}
        return self.reading(
            component, Health.DOWN, trouble.state, trouble.detail, latency_ms=trouble.latency_ms, facts=facts
        )

    def by_age(self, name: Sla, age: timedelta) -> Health:
        """What an age means by its threshold."""
        entry = self.sla[name]
        if age > entry.page_after:
            return Health.DOWN
        return Health.DEGRADED if age > entry.warn_after else Health.OK


def refusal(reply: Reply) -> Trouble | None:
    """An answer that is not 200, told by what its body says; None for a 200."""
    if reply.status == _OK_STATUS:
        return None
    body = json_of(reply)
    if isinstance(body, Trouble):
        return body
    said = next((str(body[name]) for name in ("detail", "message", "error", "status") if body.get(name)), "")
    detail = f"HTTP {reply.status}: {one_line(said, 120)}" if said else f"HTTP {reply.status}"
    return Trouble(f"http_{reply.status}", detail, reply.latency_ms, reply.status)


def minutes(age: timedelta) -> float:
    """An age in minutes, as a reading's value."""
    return round(age.total_seconds() / 60, 1)


def in_words(age: timedelta) -> str:
    """An age for people: `12 min`, `3.4 h`, `2.1 d`."""
    seconds = age.total_seconds()
    if seconds < 90:
        return f"{max(seconds, 0):.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} d"
