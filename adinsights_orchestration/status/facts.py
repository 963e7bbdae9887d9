"""What the picture is made of, read from the ops store in a bounded number of statements.

Belongs here: SQL, read only. Does not belong here: what follows from it (`rules`). Connections are counted and sorted
by Postgres: ten thousand of them cost a command one aggregate and twenty rows.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from adinsights_orchestration.freshness.model import Freshness
from adinsights_orchestration.freshness.states import load_place
from adinsights_orchestration.health.model import ComponentState
from adinsights_orchestration.health.states import load as load_components
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import connection_freshness, finding
from adinsights_orchestration.tenants.model import Provider, Tenant
from adinsights_orchestration.tenants.store import RegistryHealth, load_tenants, registry_health
from adinsights_orchestration.topology.store import LoadedTopology, load_topology

_ROWS = connection_freshness.c
NOT_DRIVEN = (Freshness.PAUSED, Freshness.MANUAL)


@dataclass(frozen=True, slots=True)
class Count:
    """How many connections of a provider are in a state.

    Attributes:
        provider: The provider.
        state: What the last evaluation said.
        expired: Whether that had run out long before anybody looked again.
        connections: How many.
    """

    provider: Provider
    state: Freshness
    expired: bool
    connections: int


@dataclass(frozen=True, slots=True)
class Row:
    """One connection, as the last evaluation left it; `expired` as in `Count`."""

    partition: str
    provider: Provider
    tenant_id: UUID
    state: Freshness
    expired: bool
    detail: str
    since: datetime
    last_success_at: datetime | None
    deadline: datetime | None


@dataclass(frozen=True, slots=True)
class FindingCount:
    """How many findings of a kind are open, and since when the oldest is."""

    kind: str
    open: int
    oldest_at: datetime


@dataclass(frozen=True, slots=True)
class Facts:
    """What there is to conclude from.

    Attributes:
        components: The components that were ever read.
        evaluated_at: The last evaluation of freshness.
        counts: All connections, counted.
        rows: The stalest of them, the worst first.
        tenants: Who is served.
        registry: How the registry's last read went.
        findings: What is open.
        topology: What is known of the pipelines.
    """

    components: Sequence[ComponentState] = ()
    evaluated_at: datetime | None = None
    counts: Sequence[Count] = ()
    rows: Sequence[Row] = ()
    tenants: Sequence[Tenant] = ()
    registry: RegistryHealth = field(default_factory=lambda: RegistryHealth(None, None, None, None, ()))
    findings: Sequence[FindingCount] = ()
    topology: LoadedTopology = field(default_factory=LoadedTopology)


def load_facts(
    store: OpsStore, now: datetime, *, expired_before: datetime, tenants: Collection[UUID] | None = None, stalest: int
) -> Facts:
    """Reads everything.

    Args:
        store: The ops store.
        now: The moment.
        expired_before: A verdict that held until before this moment should have been renewed by now.
        tenants: Narrows the connections to those of these tenants; None for all.
        stalest: How many of them at most.

    Raises:
        OpsStoreError: The ops store does not answer, or is not migrated.
    """
    registry, served = registry_health(store, now), load_tenants(store)
    expired = sa.func.coalesce(_ROWS.valid_until < expired_before, sa.false()).label("expired")
    with store.begin() as connection:
        place = load_place(connection)
        return Facts(
            components=list(load_components(connection).values()),
            evaluated_at=place.read_at if place else None,
            counts=_counts(connection, expired, tenants),
            rows=_stalest(connection, expired, tenants, stalest),
            tenants=[one for one in served if not one.retired],
            registry=registry,
            findings=_findings(connection),
            topology=load_topology(connection),
        )


def _of(tenants: Collection[UUID] | None) -> sa.ColumnElement[bool]:
    return sa.true() if tenants is None else _ROWS.tenant_id.in_(list(tenants))


def _counts(connection: sa.Connection, expired: sa.Label[bool], tenants: Collection[UUID] | None) -> list[Count]:
    query = sa.select(_ROWS.provider, _ROWS.state, expired, sa.func.count()).where(_of(tenants))
    found = connection.execute(query.group_by(_ROWS.provider, _ROWS.state, expired))
    return [Count(Provider(provider), Freshness(state), old, count) for provider, state, old, count in found]


def _stalest(
    connection: sa.Connection, expired: sa.Label[bool], tenants: Collection[UUID] | None, limit: int
) -> list[Row]:
    rank = sa.case({state.value: state.rank for state in Freshness}, value=_ROWS.state)
    driven = _ROWS.state.not_in([state.value for state in NOT_DRIVEN])
    query = sa.select(
        _ROWS.partition_key,
        _ROWS.provider,
        _ROWS.tenant_id,
        _ROWS.state,
        expired,
        _ROWS.detail,
        _ROWS.since,
        _ROWS.last_success_at,
        _ROWS.deadline,
    ).where(_of(tenants), driven)
    query = query.order_by(rank.desc(), expired.desc(), _ROWS.last_success_at.asc().nulls_first(), _ROWS.partition_key)
    found = connection.execute(query.limit(limit))
    return [
        Row(key, Provider(provider), owner, Freshness(state), *rest) for key, provider, owner, state, *rest in found
    ]


def _findings(connection: sa.Connection) -> list[FindingCount]:
    query = sa.select(finding.c.kind, sa.func.count(), sa.func.min(finding.c.first_seen_at))
    found = connection.execute(query.where(finding.c.cleared_at.is_(None)).group_by(finding.c.kind))
    return [FindingCount(*row) for row in found.all()]
