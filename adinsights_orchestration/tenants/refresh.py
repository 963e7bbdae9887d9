"""One refresh of the registry: read, judge, give keys, store; or keep what there was and say why.

Belongs here: the order of these steps and what a failed one means. Does not belong here: the steps. A refresh that
finds nothing new writes one row (when it looked); one that fails changes nothing that is served; one that lacks most of
what is served (`guard`) is taken for a failure until a person confirms it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from adinsights_orchestration import __version__
from adinsights_orchestration.clock import TickClock
from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.ops_store import findings
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.tenants import store as registry_store
from adinsights_orchestration.tenants.guard import Loss, unbelievable_loss
from adinsights_orchestration.tenants.keys import Assignment, FrozenKeys, assign_keys, with_keys
from adinsights_orchestration.tenants.model import Provider, Registry
from adinsights_orchestration.tenants.raw import digest_of
from adinsights_orchestration.tenants.rules import build_registry
from adinsights_orchestration.tenants.sources import Reading, read
from adinsights_orchestration.tenants.store import NEVER_READ, Snapshot

UNREADABLE = "registry_unreadable"
SHRUNK = "registry_shrunk"
PROBLEM = "registry_problem"
LOCK = "registry_refresh"
_NAMED_IN_FINDING = 20
_TO_CONFIRM = (
    "Check the role's rights and the table's policies, whether the database is restored completely, or whether the file"
    " is whole. If they really left, run `adinsights registry refresh --accept-loss` once."
)


@dataclass(frozen=True, slots=True)
class RefreshReport:
    """What a refresh did.

    Attributes:
        registry: What is served now, whether or not this refresh could read the source.
        changed: Whether it differs from what was served before.
        new_partitions: Keys given now, or that now belong to another provider. Adding partitions to Dagster must not
            rest on this alone (a process may die in between): `registry.partitions()` is what should be there.
        retired: Keys whose connection left.
        returned: Retired keys whose connection is back.
        error: Why the source could not be used, with the next step; None when it was.
        busy: Another refresh was under way, and this one did nothing.
    """

    registry: Registry
    changed: bool = False
    new_partitions: dict[Provider, list[str]] = field(default_factory=dict)
    retired: tuple[str, ...] = ()
    returned: tuple[str, ...] = ()
    error: str | None = None
    busy: bool = False


def refresh(
    settings: Settings,
    store: OpsStore,
    now: datetime,
    *,
    accept_loss: bool = False,
) -> RefreshReport:
    """Reads the registry's source, within a tick's budget, and makes what it says the registry that is served.

    Args:
        settings: Which source, which overlay, the home timezone.
        store: Where it is kept.
        now: The moment of the read.
        accept_loss: Take a source that lacks most of what is served for the truth. A person's answer to one refresh,
            and not a setting: a setting would be left on and disarm the guard for the day when it is a mistake.

    Raises:
        OpsStoreError: The ops store does not answer. Everything else that fails is in the report.
    """
    clock = TickClock(now, settings.ingestion.tick_budget_seconds)  # others wait for the lock meanwhile
    with store.exclusive(LOCK) as mine:
        if not mine:
            return RefreshReport(registry_store.load_registry(store), busy=True)
        try:
            reading, error = read(settings, clock.left), None
        except AdinsightsError as failure:
            reading, error = None, str(failure)
        with store.begin() as connection:
            last = registry_store.last_snapshot(store, connection)
            if reading is None:
                return _keep(connection, settings, last, error or "", now)
            findings.clear_finding(connection, UNREADABLE, settings.registry.source, now)
            archived = _archived(connection, reading)
            held = (str(each) for each in sorted(archived))
            digest = digest_of(reading.raw, reading.overlay_text, settings.home_timezone, __version__, *held)
            if last is not None and last.digest == digest:
                return _find_nothing_new(connection, last, now)
            judged = _judge(connection, settings, reading, archived, last, now)
            loss = None if accept_loss else unbelievable_loss(_served(last), judged.registry)
            if loss is not None:
                return _hold(connection, settings, _served(last), loss, judged.registry.source, now)
            return _take(connection, judged, digest, last, now)


def _served(last: Snapshot | None) -> Registry:
    return last.registry if last else NEVER_READ


def _archived(connection: sa.Connection, reading: Reading) -> frozenset[UUID]:
    """The tenants that entries name by their id, that the source does not have, and whose rows the archive holds."""
    here = {tenant.id for tenant in reading.raw.tenants}
    named = {entry.id for entry in reading.overlay if entry.id is not None and entry.id not in here}
    return registry_store.archived_tenants(connection, named)


def _keep(
    connection: sa.Connection, settings: Settings, last: Snapshot | None, error: str, now: datetime
) -> RefreshReport:
    registry_store.write_failure(connection, error, now)
    findings.open_finding(connection, UNREADABLE, settings.registry.source, {"error": error}, now)
    return RefreshReport(_served(last), error=error)


def _hold(
    connection: sa.Connection, settings: Settings, served: Registry, loss: Loss, source: str, now: datetime
) -> RefreshReport:
    reason = f"{source} {loss.describe()}. The last good registry stays in force."
    error = f"{reason} {_TO_CONFIRM}"
    registry_store.write_failure(connection, error, now)
    detail = {
        "reason": reason,
        "had": loss.had,
        "lost": len(loss.lost),
        "among_them": list(loss.lost[:_NAMED_IN_FINDING]),
        "next_step": _TO_CONFIRM,
    }
    findings.replace_findings(connection, SHRUNK, {settings.registry.source: detail}, now)
    return RefreshReport(served, error=error)


def _find_nothing_new(connection: sa.Connection, last: Snapshot, now: datetime) -> RefreshReport:
    registry_store.write_success(connection, last.id, now)
    findings.replace_findings(connection, SHRUNK, {}, now)
    return RefreshReport(replace(last.registry, read_at=now))


@dataclass(frozen=True, slots=True)
class _Judged:
    """What a read means: the registry with its keys, what they change, and the keys before."""

    registry: Registry
    assignment: Assignment
    frozen: FrozenKeys


def _judge(
    connection: sa.Connection,
    settings: Settings,
    reading: Reading,
    archived: frozenset[UUID],
    last: Snapshot | None,
    now: datetime,
) -> _Judged:
    built = build_registry(
        reading.raw,
        reading.overlay,
        _served(last),
        default_timezone=settings.home_timezone,
        read_at=now,
        archived=archived,
    )
    frozen = registry_store.frozen_keys(connection)
    assignment = assign_keys(built.connections, {tenant.id: tenant.slug for tenant in built.tenants}, frozen)
    return _Judged(with_keys(built, assignment, frozen, _served(last)), assignment, frozen)


def _take(
    connection: sa.Connection, judged: _Judged, digest: str, last: Snapshot | None, now: datetime
) -> RefreshReport:
    registry, assignment = judged.registry, judged.assignment
    registry_store.write_keys(connection, assignment, now)
    snapshot_id = registry_store.write_snapshot(connection, digest, registry, last)
    registry_store.write_success(connection, snapshot_id, now)
    findings.replace_findings(connection, PROBLEM, _problems(registry), now)
    findings.replace_findings(connection, SHRUNK, {}, now)
    return RefreshReport(
        registry,
        changed=last is None or snapshot_id != last.id,
        new_partitions=_new_partitions(assignment, judged.frozen),
        retired=assignment.retired,
        returned=assignment.returned,
    )


def _problems(registry: Registry) -> dict[str, dict[str, str]]:
    by_place: dict[str, list[str]] = {}
    for problem in registry.problems:
        by_place.setdefault(problem.place, []).append(problem.problem)
    return {place: {"problem": "; ".join(found)} for place, found in by_place.items()}


def _new_partitions(assignment: Assignment, frozen: FrozenKeys) -> dict[Provider, list[str]]:
    new: dict[Provider, list[str]] = {}
    moved = (key for key in assignment.changed if key.provider is not frozen.keys[key.key].provider)
    for key in (*assignment.created, *moved):
        new.setdefault(key.provider, []).append(key.key)
    return new
