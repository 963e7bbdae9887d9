"""Taking the picture: the facts of one ops store, by the limits of one environment.

Belongs here: what the command, the file and the overview share. Does not belong here: what the facts mean (`rules`).
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from uuid import UUID

from adinsights_orchestration.environments import UNATTENDED, Automation
from adinsights_orchestration.errors import OpsStoreError
from adinsights_orchestration.freshness.sla import Sla, load_sla
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.status.facts import load_facts
from adinsights_orchestration.status.kept import last_known
from adinsights_orchestration.status.links import Links
from adinsights_orchestration.status.model import Status
from adinsights_orchestration.status.rules import Frame, Limits, build_status, unreachable

STALEST = 20
_TICKS = 3  # so many missed in a row are no accident


def take_status(
    settings: Settings,
    store: OpsStore,
    now: datetime,
    *,
    tenant: tuple[str, Collection[UUID]] | None = None,
    stalest: int = STALEST,
) -> Status:
    """Returns how everything is.

    Args:
        settings: Environment, links, thresholds.
        store: The ops store.
        now: The moment.
        tenant: Narrows the connections to a tenant: what it is called, and the ids of those who are.
        stalest: How many connections to list at most.

    Raises:
        OpsStoreError: The ops store does not answer, or is not migrated.
        ConfigurationError: The SLA table is wrong.
    """
    frame = frame_of(settings, tenant=tenant[0] if tenant else None)
    facts = load_facts(
        store,
        now,
        expired_before=now - frame.limits.evaluation,
        tenants=tenant[1] if tenant else None,
        stalest=stalest,
    )
    return build_status(facts, frame, now)


def down(settings: Settings, error: OpsStoreError, now: datetime, *, tenant: str | None = None) -> Status:
    """Returns the status while the ops store does not answer."""
    return unreachable(error.problem, frame_of(settings, tenant=tenant), now, last_known(settings))


def frame_of(settings: Settings, *, tenant: str | None = None) -> Frame:
    """Returns what a picture of this environment is taken with."""
    sla = load_sla(settings.environment, settings.freshness.sla_path)
    heartbeat = sla[Sla.HEARTBEAT_AGE].warn_after
    limits = Limits(
        reading=heartbeat,
        evaluation=max(heartbeat, _ticks(settings, Automation.FRESHNESS)),
        registry=max(heartbeat, _ticks(settings, Automation.REGISTRY)),
    )
    return Frame(settings.environment.value, Links.of(settings), limits, tenant)


def _ticks(settings: Settings, automation: Automation) -> timedelta:
    unattended = UNATTENDED[settings.environment].get(automation)
    return timedelta(seconds=_TICKS * ((unattended.every_seconds or 0) if unattended else 0))
