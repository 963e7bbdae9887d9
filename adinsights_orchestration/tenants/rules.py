"""From raw rows to a `Registry`: what may be used, what is misconfigured, what a person must mend.

Belongs here: every judgement on a registry's content. Does not belong here: reading it (`sources`), partition keys
(`keys`), how long audit rows are kept (`kept`). One bad row never costs another: it becomes a `RegistryProblem`, and
where the connection can still be told apart it stays in the registry as misconfigured, so that its partition neither
vanishes nor is driven.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from adinsights_orchestration.tenants.cron import parse_cron
from adinsights_orchestration.tenants.kept import archived_alone, gone_tenant, kept_values, unsaid
from adinsights_orchestration.tenants.model import (
    Connection,
    Provider,
    Registry,
    RegistryProblem,
    Schedule,
    ScheduleType,
    Tenant,
)
from adinsights_orchestration.tenants.overlay import TenantOverlay, match_overlay
from adinsights_orchestration.tenants.raw import RawConnection, RawRegistry, RawTenant
from adinsights_orchestration.tenants.slugs import tenant_slugs

LONGEST_INTERVAL_MINUTES = 366 * 24 * 60


@dataclass(slots=True)
class _Findings:
    """Problems collected on the way, in the order they were met."""

    problems: list[RegistryProblem] = field(default_factory=list)

    def add(self, place: str, problem: str) -> None:
        self.problems.append(RegistryProblem(place, problem))


def build_registry(
    raw: RawRegistry,
    overlay: Sequence[TenantOverlay],
    previous: Registry,
    *,
    default_timezone: str,
    read_at: datetime,
    archived: Collection[UUID] = (),
) -> Registry:
    """Judges everything that was read.

    Args:
        raw: What the source holds.
        overlay: The overlay's entries.
        previous: The last good registry: slugs, the providers of rows that lost theirs, and what keeps audit rows and
            no entry takes back, are taken from it.
        default_timezone: Of tenants to which the overlay gives none.
        read_at: When it was read.
        archived: Tenants whose audit rows the archive holds; they need not be known otherwise to be held.

    Returns:
        The registry without partition keys. Tenants that are gone from the source are in it as retired.
    """
    found = _Findings()
    tenants = _tenants(raw, overlay, previous, default_timezone, archived, found)
    judged = _judged_connections(raw, previous, found)
    unique = _without_duplicates(judged, previous, {tenant.id: tenant.name for tenant in tenants}, found)
    with_connections = {connection.tenant_id for connection in raw.connections}
    for tenant in raw.tenants:
        if tenant.id not in with_connections:
            found.add(tenant.place, f"the tenant {tenant.name!r} has no connections")
    return Registry(tenants, tuple(unique), raw.source, read_at, tuple(found.problems))


def _tenants(
    raw: RawRegistry,
    overlay: Sequence[TenantOverlay],
    previous: Registry,
    default_timezone: str,
    archived: Collection[UUID],
    found: _Findings,
) -> tuple[Tenant, ...]:
    present: dict[UUID, RawTenant] = {}
    for tenant in raw.tenants:
        if tenant.id in present:
            found.add(tenant.place, f"the tenant {tenant.id} is there twice; {present[tenant.id].place} is used")
        else:
            present[tenant.id] = tenant
    before = {tenant.id: tenant for tenant in previous.tenants}
    gone = [tenant for tenant in previous.tenants if tenant.id not in present]
    gone += archived_alone(overlay, archived, {*present, *before})
    entries, problems = match_overlay(overlay, present.values(), gone)
    found.problems.extend(problems)
    slugs = tenant_slugs(
        [(each.id, each.name) for each in present.values()] + [(each.id, each.name) for each in gone],
        wanted={tenant_id: entry.slug for tenant_id, entry in entries.items() if entry.slug},
        known={tenant.id: tenant.slug for tenant in (*previous.tenants, *gone)},
    )
    here = [
        _tenant(raw_tenant, slugs[at], entries.get(at), before.get(at), default_timezone)
        for at, raw_tenant in present.items()
    ]
    left = [gone_tenant(each, slugs[each.id], entries.get(each.id)) for each in gone]
    tenants = (*here, *left)
    for each in tenants:
        if problem := unsaid(each, entries.get(each.id), before.get(each.id)):
            found.add(f"tenant {each.id}", problem)
    return tenants


def _tenant(
    raw: RawTenant, slug: str, entry: TenantOverlay | None, before: Tenant | None, default_timezone: str
) -> Tenant:
    said = entry or TenantOverlay(place="")
    return Tenant(
        id=raw.id,
        name=raw.name,
        slug=slug,
        timezone=said.timezone or default_timezone,
        owner=said.owner,
        sla=said.sla,
        **kept_values(said, before),
    )


def _judged_connections(
    raw: RawRegistry, previous: Registry, found: _Findings
) -> list[tuple[RawConnection, Connection]]:
    tenant_names = {tenant.id: tenant.name for tenant in raw.tenants}
    known_providers = {connection.row_id: connection.provider for connection in previous.connections}
    judged = []
    for row in raw.connections:
        provider, problem = _provider(row, known_providers.get(row.row_id))
        schedule, schedule_problem = _schedule(row)
        problem = problem or schedule_problem
        if row.tenant_id not in tenant_names:
            found.add(row.place, f"the connection {row.name!r} belongs to the unknown tenant {row.tenant_id}")
            continue
        if problem:
            found.add(row.place, f"{tenant_names[row.tenant_id]} / {row.name}: {problem}")
        if provider is not None:
            judged.append((row, _connection(row, provider, schedule, problem)))
    return judged


def _provider(row: RawConnection, known: Provider | None) -> tuple[Provider | None, str | None]:
    # A row that had a provider keeps it while a person mends the row: dropping it would retire its partition.
    if not (row.provider or "").strip():
        return known, "no provider is set"
    try:
        return Provider.from_code(row.provider or ""), None
    except ValueError as error:
        return known, str(error)


def _schedule(row: RawConnection) -> tuple[Schedule, str | None]:
    try:
        kind = ScheduleType(row.schedule_type)
    except ValueError:
        return Schedule(ScheduleType.MANUAL), f"unknown schedule type {row.schedule_type!r}; known: {_SCHEDULE_TYPES}"
    if kind is ScheduleType.MANUAL:
        return Schedule(kind), None
    schedule, problem = _interval(row) if kind is ScheduleType.INTERVAL else _cron(row)
    return schedule, problem if row.is_active else None  # a paused connection's schedule is in nobody's way


_SCHEDULE_TYPES = ", ".join(ScheduleType)


def _interval(row: RawConnection) -> tuple[Schedule, str | None]:
    minutes = row.interval_minutes
    if minutes is None:
        return Schedule(ScheduleType.INTERVAL), "an interval schedule without interval_minutes"
    if not 1 <= minutes <= LONGEST_INTERVAL_MINUTES:
        return Schedule(
            ScheduleType.INTERVAL
        ), f"an interval of {minutes} minutes; 1 to {LONGEST_INTERVAL_MINUTES} can be"
    return Schedule(ScheduleType.INTERVAL, interval=timedelta(minutes=minutes)), None


def _cron(row: RawConnection) -> tuple[Schedule, str | None]:
    expression = (row.cron_expression or "").strip()
    schedule = Schedule(ScheduleType.CRON, cron=expression)
    if not expression:
        return schedule, "a cron schedule without an expression"
    try:
        parse_cron(expression)
    except ValueError as error:
        return schedule, str(error)
    return schedule, None


def _connection(row: RawConnection, provider: Provider, schedule: Schedule, problem: str | None) -> Connection:
    return Connection(
        row_id=row.row_id,
        tenant_id=row.tenant_id,
        provider=provider,
        name=row.name,
        connection_id=row.connection_id,
        schedule=schedule,
        workspace_id=row.workspace_id,
        is_active=row.is_active,
        problem=problem,
    )


def _without_duplicates(
    judged: Iterable[tuple[RawConnection, Connection]],
    previous: Registry,
    tenant_names: Mapping[UUID, str],
    found: _Findings,
) -> list[Connection]:
    """Leaves one connection per row id and per Airbyte connection.

    Of two rows with one Airbyte connection the active one is used (a tenant that hands it over pauses the old row),
    then the one that had it at the last read, then the older one.
    """
    owners = {(c.row_id, c.connection_id) for c in previous.connections if not c.retired}
    ordered = sorted(judged, key=lambda pair: (not pair[1].is_active, _identity(pair[1]) not in owners))
    used: dict[UUID, tuple[RawConnection, Connection]] = {}
    kept = []
    for row, connection in ordered:
        rival = used.get(connection.row_id) or used.get(connection.connection_id)
        if rival is not None:
            found.add(row.place, _duplicate(connection, rival, tenant_names))
            continue
        used[connection.row_id] = used[connection.connection_id] = (row, connection)
        kept.append(connection)
    return kept


def _identity(connection: Connection) -> tuple[UUID, UUID]:
    return connection.row_id, connection.connection_id


def _duplicate(
    connection: Connection, rival: tuple[RawConnection, Connection], tenant_names: Mapping[UUID, str]
) -> str:
    row, used = rival
    if connection.connection_id != used.connection_id:
        return f"the connection id {connection.row_id} is there twice; {row.place} is used"
    whose = (
        f"also of the tenant {tenant_names[used.tenant_id]!r}"
        if used.tenant_id != connection.tenant_id
        else "there twice"
    )
    return f"the Airbyte connection {connection.connection_id} is {whose}; {row.place} is used"
