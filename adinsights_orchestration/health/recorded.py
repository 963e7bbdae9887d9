"""What the ops store knows that probes compare with what they are told.

Belongs here: SQL, read only, a bounded number of statements a tick. Does not belong here: what follows (`dbt`,
`probes`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from adinsights_orchestration.freshness.model import Freshness
from adinsights_orchestration.freshness.states import load_place
from adinsights_orchestration.health.dbt import Invocation, ModelResult
from adinsights_orchestration.ops_store.cursors import keep_cursor
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import (
    connection_freshness,
    cursor,
    dbt_invocation,
    dbt_model_result,
    health_sample,
    sync_job,
)
from adinsights_orchestration.tenants.model import Tenant
from adinsights_orchestration.tenants.store import RegistryHealth, load_registry, registry_health

_MEMORY = "health_memory"
_INVOCATIONS = 500  # five days of a build every 15 minutes
_TOLD_JOBS = ("succeeded", "failed")  # what Airbyte tells the backend of
_DATA_TYPES = ("sync", "refresh")
_CLOCK_SLACK = timedelta(minutes=10)
LATE_STATES = tuple(state.value for state in Freshness if state.is_late)


@dataclass(frozen=True, slots=True)
class TenantSyncs:
    """What is known of one tenant's connections: how many are late, and the newest success of any."""

    late: int
    last_success_at: datetime | None


@dataclass(frozen=True, slots=True)
class Recorded:
    """The ops store at the beginning of a tick.

    Attributes:
        registry: How the last read of the registry went.
        tenants: Tenants that are served and have a connection.
        freshness: How many connections are in each state; empty before the first evaluation.
        freshness_at: When that was evaluated last; None before the first evaluation.
        syncs: The same by tenant.
        invocations: The newest dbt commands that ran models, and those that never ended.
        models: The newest result of each model, snapshot and seed.
        probed: Readings of the backend in the last minutes: how many, and how many of them were bad.
        memory: What probes remember from tick to tick.
    """

    registry: RegistryHealth
    tenants: Sequence[Tenant] = ()
    freshness: Mapping[str, int] = field(default_factory=dict)
    freshness_at: datetime | None = None
    syncs: Mapping[UUID, TenantSyncs] = field(default_factory=dict)
    invocations: Sequence[Invocation] = ()
    models: Sequence[ModelResult] = ()
    probed: tuple[int, int] = (0, 0)
    memory: Mapping[str, Any] = field(default_factory=dict)


def read(store: OpsStore, now: datetime, window: timedelta) -> Recorded:
    """Reads everything once.

    Args:
        store: The ops store.
        now: The moment of the tick.
        window: Over which the API's error rate is told.

    Raises:
        OpsStoreError: It does not answer.
    """
    health = registry_health(store, now)
    registry = load_registry(store)
    served = {one.tenant_id for one in registry.connections if not one.retired}
    with store.begin() as connection:
        place = load_place(connection)
        return Recorded(
            registry=health,
            tenants=[tenant for tenant in registry.tenants if not tenant.retired and tenant.id in served],
            freshness=_states(connection),
            freshness_at=place.read_at if place else None,
            syncs=_syncs(connection),
            invocations=_invocations(connection),
            models=_models(connection),
            probed=_probed(connection, now - window),
            memory=connection.execute(sa.select(cursor.c.value).where(cursor.c.name == _MEMORY)).scalar() or {},
        )


def remember(connection: sa.Connection, memory: Mapping[str, Any], now: datetime) -> None:
    """Keeps what probes remember for the next tick."""
    keep_cursor(connection, _MEMORY, memory, now)


@dataclass(frozen=True, slots=True)
class Untold:
    """Finished jobs that ended after the last one that the backend was told of.

    Attributes:
        heard_until: When the newest job that the backend knows ended; None where it knows none of ours.
        jobs: How many ended since.
        since: When the first of them ended.
        running: Jobs that run.
    """

    heard_until: datetime | None
    jobs: int
    since: datetime | None
    running: int


def untold_jobs(store: OpsStore, told: Sequence[int], now: datetime, back: timedelta) -> Untold:
    """Returns what the backend was not told.

    Args:
        store: The ledger.
        told: The jobs that the backend names as the last ones of its connections.
        now: The moment.
        back: How far back jobs count at all.
    """
    job = sync_job.c
    with store.begin() as connection:
        heard = connection.execute(sa.select(sa.func.max(job.ended_at)).where(job.job_id.in_(list(told)))).scalar()
        since = max(heard, now - back) if heard else now - back
        counted = sa.select(sa.func.count(), sa.func.min(job.ended_at)).where(
            job.observed_at >= since - _CLOCK_SLACK,
            job.ended_at > since,
            job.status.in_(_TOLD_JOBS),
            job.job_type.in_(_DATA_TYPES),
            job.job_id.not_in(list(told)),
        )
        jobs, first = connection.execute(counted).one()
        running = connection.execute(sa.select(sa.func.count()).where(job.report_state == "none")).scalar_one()
    return Untold(heard, jobs, first, running)


def _states(connection: sa.Connection) -> dict[str, int]:
    state = connection_freshness.c.state
    return {row[0]: row[1] for row in connection.execute(sa.select(state, sa.func.count()).group_by(state))}


def _syncs(connection: sa.Connection) -> dict[UUID, TenantSyncs]:
    row = connection_freshness.c
    late = sa.func.count().filter(row.state.in_(LATE_STATES))
    query = sa.select(row.tenant_id, late, sa.func.max(row.last_success_at)).group_by(row.tenant_id)
    return {tenant: TenantSyncs(count, success) for tenant, count, success in connection.execute(query)}


def _invocations(connection: sa.Connection) -> list[Invocation]:
    row = dbt_invocation.c
    query = (
        sa.select(
            row.run_id,
            row.completed,
            row.succeeded,
            row.generated_at,
            row.elapsed_seconds,
            row.models,
            row.artifact,
        )
        .where(sa.or_(row.models > 0, sa.not_(row.completed)))
        .order_by(row.generated_at.desc())
        .limit(_INVOCATIONS)
    )
    return [
        Invocation(
            run_id=found.run_id,
            completed=found.completed,
            succeeded=found.succeeded,
            generated_at=found.generated_at,
            elapsed=timedelta(seconds=found.elapsed_seconds),
            models=found.models,
            readable=isinstance(found.artifact, dict) and "generated_at" in found.artifact,
        )
        for found in connection.execute(query)
    ]


def _models(connection: sa.Connection) -> list[ModelResult]:
    row = dbt_model_result.c
    query = sa.select(row.unique_id, row.status, row.generated_at, row.built_at)
    return [ModelResult(*found) for found in connection.execute(query)]


def _probed(connection: sa.Connection, since: datetime) -> tuple[int, int]:
    row = health_sample.c
    query = sa.select(
        sa.func.coalesce(sa.func.sum(row.readings), 0), sa.func.coalesce(sa.func.sum(row.degraded + row.down), 0)
    ).where(row.component == "backend", row.resolution == "minute", row.at >= since)
    readings, bad = connection.execute(query).one()
    return int(readings), int(bad)
