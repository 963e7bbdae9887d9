"""Facts from the ops store: everything that rules need, in a number of statements that does not grow.

Belongs here: SQL, read only. Does not belong here: what follows from it (`rules`), Dagster's event log
(`dagster_events`). Connections that are well are counted, not read, and where nothing was written since the last
evaluation of this process, nothing is read at all but the marks that say so (`marks`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from adinsights_orchestration.alerting.facts import (
    ConnectionFact,
    Disk,
    Events,
    Facts,
    OpenFinding,
    ProviderFact,
    SyncErrors,
)
from adinsights_orchestration.alerting.gathering import history, marks
from adinsights_orchestration.alerting.gathering.marks import Marks
from adinsights_orchestration.alerting.gathering.standing import (
    AVAILABILITY_EVERY,
    REREAD,
    WHOLE_EVERY,
    Connections,
    Reading,
    Standing,
)
from adinsights_orchestration.alerting.night import Night, night_at
from adinsights_orchestration.alerting.rules import budget
from adinsights_orchestration.freshness.model import Freshness
from adinsights_orchestration.freshness.sla import Sla, SlaTable
from adinsights_orchestration.health.states import load as load_components
from adinsights_orchestration.ops_store.findings import open_findings
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import connection_freshness, sync_job
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.tenants.model import Connection, Provider
from adinsights_orchestration.tenants.store import NEVER_READ, last_snapshot
from adinsights_orchestration.topology.model import Topology

_ROWS = connection_freshness.c
_QUIET = tuple(state.value for state in (Freshness.OK, Freshness.PENDING, Freshness.PAUSED, Freshness.MANUAL))
_INACTIVE = tuple(state.value for state in (Freshness.PAUSED, Freshness.MANUAL, Freshness.MISCONFIGURED))
_LATE = tuple(state.value for state in Freshness if state.is_late)


@dataclass(frozen=True)
class Beside:
    """What is known from elsewhere than the ops store.

    Attributes:
        events: What Dagster's event log says.
        topology: What the pipelines consist of, as far as it is known.
        held: What a storm held back in the last evaluation.
        disks: The disks that this deployment writes to.
    """

    events: Events
    topology: Topology | None
    held: Sequence[str] = ()
    disks: Sequence[Disk] = ()


def read(
    store: OpsStore,
    connection: sa.Connection,
    settings: Settings,
    sla: SlaTable,
    now: datetime,
    beside: Beside,
    standing: Standing | None = None,
    seen: Marks | None = None,
) -> Facts:
    """Reads everything.

    Args:
        store: Whose registry is served.
        connection: The evaluation's transaction.
        settings: Addresses of what is linked.
        sla: The levels.
        now: The moment.
        beside: What is known from elsewhere.
        standing: What this process read before; where that holds nothing is read, else of connections what changed.
        seen: The marks, where they were read in this transaction already.
    """
    standing = standing or Standing()
    seen = seen or marks.read(connection, now)
    freshness_at = seen.freshness.read_at if seen.freshness else None
    night = night_at(now, sla)
    made_of = (settings, sla, beside.topology)
    last = standing.reading
    if last is not None and last.holds(now, (seen.content, night), made_of):
        last = _probed(connection, last, seen, now)
    else:
        facts = _read(store, connection, made_of, night, now, standing)
        last = Reading(now, _holds_until(facts), (seen.content, night), made_of, facts, seen.components, now)
    standing.reading = last
    return replace(
        last.facts,
        now=now,
        freshness_at=freshness_at,
        events=beside.events,
        held=beside.held,
        disks=beside.disks,
        memo=standing.memo,
    )


def _probed(connection: sa.Connection, last: Reading, seen: Marks, now: datetime) -> Reading:
    """What was read last, with what probes wrote since: they write all the time, whether anything is new or not."""
    if last.probed != seen.components:
        components = load_components(connection)
        last = replace(last, facts=replace(last.facts, components=components), probed=seen.components)
    if timedelta() <= now - last.available_at < AVAILABILITY_EVERY:
        return last
    windows = budget.windows(last.facts.sla)
    facts = replace(last.facts, availability=history.availability(connection, windows, now))
    return replace(last, facts=facts, available_at=now)


def _read(
    store: OpsStore,
    connection: sa.Connection,
    made_of: tuple[Settings, SlaTable, Topology | None],
    night: Night,
    now: datetime,
    standing: Standing,
) -> Facts:
    """What the ops store holds; connections only as far as they changed."""
    settings, sla, topology = made_of
    snapshot = last_snapshot(store, connection)
    served, tenants = standing.of_registry(snapshot.registry if snapshot else NEVER_READ)
    places, graph = standing.around(settings, sla, topology)
    known = _refreshed(connection, standing.connections, served, now)
    standing.connections = known
    return Facts(
        now=now,
        sla=sla,
        places=places,
        tenants=tenants,
        connections=list(known.facts.values()),
        providers=known.providers,
        sync_errors=_sync_errors(connection, now, _errors_within(sla)),
        components=load_components(connection),
        findings=[
            OpenFinding(one.kind, one.subject, one.detail, one.first_seen_at) for one in open_findings(connection)
        ],
        graph=graph,
        served=served,
        empty_syncs=history.empty_syncs(connection, sla[Sla.EMPTY_SYNCS], now),
        night=history.night_done(connection, night),
        availability=history.availability(connection, budget.windows(sla), now),
    )


def _holds_until(facts: Facts) -> datetime:
    """Until when the same rows say the same: what is counted within a time changes when the time passes by a row."""
    ends = [facts.now + WHOLE_EVERY]
    ends += [one.first_at + _errors_within(facts.sla) for one in facts.sync_errors]
    ends += [one.until for one in facts.empty_syncs]
    return min(ends)


def _errors_within(sla: SlaTable) -> timedelta:
    return sla[Sla.SYNC_ERRORS].window or timedelta(minutes=30)


def _refreshed(
    connection: sa.Connection, before: Connections | None, served: Mapping[str, Connection], now: datetime
) -> Connections:
    """The connections as they are now; where that is all, only rows that freshness wrote since last time are read."""
    if before is not None and before.served is served and before.holds(now):
        changed = _rows_of(connection, served, _ROWS.evaluated_at > before.read_at - REREAD)
        gone = {key for key, fact in changed.items() if fact is None}
        new = {key: fact for key, fact in changed.items() if fact is not None and before.facts.get(key) != fact}
        facts = before.facts
        if new or not gone.isdisjoint(facts):
            facts = {key: fact for key, fact in {**facts, **new}.items() if key not in gone}
        count, total = connection.execute(
            sa.select(sa.func.count().filter(_ROWS.state.not_in(_QUIET)), sa.func.count())
        ).one()
        if count == len(facts):
            same = not changed and total == before.total
            providers = before.providers if same else _providers(connection)
            return Connections(now, before.whole_at, facts, providers, served, total)
    found = _rows_of(connection, served, _ROWS.state.not_in(_QUIET))
    facts = {key: fact for key, fact in found.items() if fact is not None}
    total = connection.execute(sa.select(sa.func.count()).select_from(connection_freshness)).scalar_one()
    return Connections(now, now, facts, _providers(connection), served, total)


def _rows_of(
    connection: sa.Connection, served: Mapping[str, Connection], which: sa.ColumnElement[bool]
) -> dict[str, ConnectionFact | None]:
    """Rows as facts by partition; None for a connection that is well."""
    query = sa.select(
        _ROWS.partition_key,
        _ROWS.provider,
        _ROWS.tenant_id,
        _ROWS.state,
        _ROWS.detail,
        _ROWS.since,
        _ROWS.deadline,
        _ROWS.last_success_at,
        _ROWS.failures,
        _ROWS.last_job_id,
        _ROWS.last_job_ended_at,
        _ROWS.running_since,
        _ROWS.usual_seconds,
    ).where(which)
    rows = connection.execute(query)
    return {row.partition_key: None if row.state in _QUIET else _fact(row, served) for row in rows}


def _fact(row: sa.Row[Any], served: Mapping[str, Connection]) -> ConnectionFact:
    return ConnectionFact(
        partition=row.partition_key,
        provider=Provider(row.provider),
        tenant_id=row.tenant_id,
        state=Freshness(row.state),
        detail=row.detail,
        since=row.since,
        deadline=row.deadline,
        last_success=row.last_success_at,
        failures=row.failures,
        last_job=row.last_job_id,
        failed_at=row.last_job_ended_at if row.failures else None,
        connection_id=one.connection_id if (one := served.get(row.partition_key)) else None,
        running_since=row.running_since,
        usual_seconds=row.usual_seconds,
    )


def _providers(connection: sa.Connection) -> dict[Provider, ProviderFact]:
    tenants = sa.func.count(_ROWS.tenant_id.distinct())
    late = tenants.filter(_ROWS.state.in_(_LATE))
    query = sa.select(_ROWS.provider, tenants, late).where(_ROWS.state.not_in(_INACTIVE)).group_by(_ROWS.provider)
    return {Provider(provider): ProviderFact(all_, stale) for provider, all_, stale in connection.execute(query)}


def _sync_errors(connection: sa.Connection, now: datetime, window: timedelta) -> list[SyncErrors]:
    job = sync_job.c
    # Observed no earlier than it ended: the index narrows, the end decides.
    failed = sa.and_(job.observed_at > now - window, job.ended_at > now - window, job.status == "failed")
    whose, last = sa.func.min(job.partition_key), sa.func.max(job.ended_at)
    is_one = whose == sa.func.max(job.partition_key)
    query = sa.select(job.tenant_id, job.provider, sa.func.count(), sa.func.min(job.ended_at))
    query = query.add_columns(sa.case((is_one, whose)).label("partition"), last.label("last"))
    errors = query.where(failed).group_by(job.tenant_id, job.provider).subquery()
    later = sa.and_(job.partition_key == errors.c.partition, job.ended_at > errors.c.last, job.status == "succeeded")
    found = connection.execute(sa.select(*errors.c[:5], sa.exists().where(later).label("is_over")))
    return [SyncErrors(tenant, Provider(provider), *rest) for tenant, provider, *rest in found]
