"""Audit rows that the orchestrator owes the backend: journalled with the act, delivered afterwards.

Belongs here: the journal in the ops store, and its delivery into `accounts_auditlog`. Does not belong here: which acts
are audited (each domain calls `record` in the transaction of its act), archiving (the audit log's own domain). The act
and its journal row are committed together; delivery repeats the row's own id, so however often it is tried, or dies
half-way, the backend has each row once. A backend that is down delays a row; only one that can never take it refuses.
A backend that is slow is given small portions and a bounded time; what does not fit is owed until the next delivery.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
import sqlalchemy as sa
from psycopg.types.json import Jsonb
from sqlalchemy.dialects.postgresql import insert

from adinsights_orchestration.backend.database import BackendDatabase, BackendDatabaseError, BackendSession
from adinsights_orchestration.clock import TickClock
from adinsights_orchestration.ops_store.findings import open_finding
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import audit_entry
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.tenants.model import Connection

SYNC_TRIGGERED = "airbyte_sync_triggered"
CONNECTION_RESOURCE = "airbyte_connection"
UNDELIVERABLE = "audit_undeliverable"
LOCK = "audit_deliver"
_LONGEST = {"action": 128, "resource_type": 64, "resource_id": 64}  # the widths of the backend's columns
# One statement for a portion of rows, so that one deadline holds for all of it. Without a conflict target, so that our
# role needs no right to read the audit log.
_INSERT = """
insert into accounts_auditlog (id, tenant_id, user_id, action, resource_type, resource_id, metadata, created_at)
select id, %s, null, action, resource_type, resource_id, metadata, created_at
  from unnest(%s::uuid[], %s::text[], %s::text[], %s::text[], %s::jsonb[], %s::timestamptz[])
    as owed (id, action, resource_type, resource_id, metadata, created_at)
on conflict do nothing
"""
_PORTION_SECONDS = 1.0  # far below any deadline of a statement, so that a slower backend still takes a portion
_LARGEST_PORTION = 200
_NAMED_IN_FINDING = 100
_TOOK_TOO_LONG = (
    "the backend took too long over this tenant's rows. Something holds a lock there, or it is overloaded; they are"
    " tried again after the others."
)


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One act to be audited.

    Attributes:
        tenant_id: Whose log it belongs to; None for an act on no tenant, which stays in the journal.
        action: What was done: `airbyte_sync_triggered`.
        resource_type: What it was done to: `airbyte_connection`.
        resource_id: Which one; of a connection the registry's row id, as the backend writes it.
        actor: Who asked; the only personal data that an entry may hold.
        created_at: When.
        detail: More, fit for JSON; becomes the row's metadata beside the actor.
        id: The row's id in the journal and in the backend.
    """

    tenant_id: UUID | None
    action: str
    resource_type: str
    resource_id: str
    actor: str
    created_at: datetime
    detail: Mapping[str, Any] = field(default_factory=dict)
    id: UUID = field(default_factory=uuid.uuid4)


@dataclass(frozen=True, slots=True)
class DeliveryReport:
    """What a delivery did.

    Attributes:
        delivered: Rows that the backend has now.
        refused: Rows that it can never take; each tenant's are a finding.
        owed: Rows that are still to be delivered.
        error: Why the backend could not be reached, with the next step.
        busy: Another delivery was under way, and this one did nothing.
    """

    delivered: int = 0
    refused: int = 0
    owed: int = 0
    error: str | None = None
    busy: bool = False


def connection_entry(
    connection: Connection,
    action: str,
    *,
    actor: str,
    now: datetime,
    job_type: str,
    job_id: int | None = None,
    run_id: str | None = None,
) -> AuditEntry:
    """The entry of an act on one connection, such as a sync that somebody triggered by hand.

    Args:
        connection: The connection, with its partition key.
        action: `SYNC_TRIGGERED`, or another of its kind.
        actor: Who asked, as the UI or the command line knows them.
        now: When.
        job_type: Airbyte's: sync, refresh, clear.
        job_id: Airbyte's job, where it is known already.
        run_id: The Dagster run that follows it.
    """
    return AuditEntry(
        tenant_id=connection.tenant_id,
        action=action,
        resource_type=CONNECTION_RESOURCE,
        resource_id=str(connection.row_id),
        actor=actor,
        created_at=now,
        detail={
            "partition_key": connection.partition_key,
            "connection_id": str(connection.connection_id),
            "job_type": job_type,
            "job_id": job_id,
            "run_id": run_id,
        },
    )


def record(connection: sa.Connection, *entries: AuditEntry) -> None:
    """Journals entries in the caller's transaction; the same entry twice is one row.

    Raises:
        ValueError: The backend's columns could never hold one of them.
    """
    for entry in entries:
        for name, longest in _LONGEST.items():
            if len(getattr(entry, name)) > longest:
                raise ValueError(f"an audit row's {name} holds {longest} characters, not {getattr(entry, name)!r}")
    rows = [
        {
            "id": entry.id,
            "tenant_id": entry.tenant_id,
            "action": entry.action,
            "resource_type": entry.resource_type,
            "resource_id": entry.resource_id,
            "detail": {**entry.detail, "actor": entry.actor},
            "created_at": entry.created_at,
        }
        for entry in entries
    ]
    if rows:
        connection.execute(insert(audit_entry).on_conflict_do_nothing(index_elements=[audit_entry.c.id]), rows)


def deliver(settings: Settings, store: OpsStore, clock: TickClock, limit: int = 1000) -> DeliveryReport:
    """Delivers owed rows, tenant by tenant, and marks them; what fails or does not fit is owed until the next time.

    Args:
        settings: The backend's address.
        store: Where the journal is.
        clock: The moment of delivery, and how long it may take.
        limit: Rows that one call takes; rows that failed before come after those that did not.
    """
    with store.exclusive(LOCK) as mine:
        if not mine:
            return DeliveryReport(busy=True)
        with store.begin() as connection:
            entries = _owed_entries(connection, clock.now(), limit)
        if not entries:
            return DeliveryReport()
        outcome = _Outcome(store, clock)
        try:
            with BackendDatabase(settings.backend).session(clock.left) as session:
                _Delivery(session, clock, outcome).run(_by_tenant(entries))
        except BackendDatabaseError as error:
            outcome.fail(entries, str(error))
        return outcome.report()


def next_portion(rows: int, seconds: float) -> int:
    """Returns how many rows to hand over next, after so many took so long: towards a second's worth at a time."""
    if seconds > _PORTION_SECONDS:
        return max(rows // 2, 1)
    return min(rows * 2, _LARGEST_PORTION) if seconds < _PORTION_SECONDS / 2 else rows


@dataclass(slots=True)
class _Delivery:
    """Hands rows over in portions that fit the backend's pace and the time that is left.

    The first portion is one row: however slow the backend is, each delivery that reaches it leaves fewer owed.
    """

    session: BackendSession
    clock: TickClock
    outcome: _Outcome
    portion: int = 1
    last_seconds: float = 0.0

    def run(self, tenants: Mapping[UUID, Sequence[sa.Row[Any]]]) -> None:
        for tenant_id, rows in tenants.items():
            if not self._has_time():
                return
            self._hand_over(tenant_id, list(rows))

    def _hand_over(self, tenant_id: UUID, rows: list[sa.Row[Any]]) -> None:
        while rows and self._has_time():
            portion = rows[: self.portion]
            try:
                self._insert(tenant_id, portion)
            except psycopg.errors.ForeignKeyViolation:
                self.outcome.refuse(rows, "the backend does not have this tenant any more")
                return
            except (psycopg.IntegrityError, psycopg.DataError) as error:
                if len(portion) == 1:
                    self.outcome.refuse(portion, f"the backend cannot hold this row ({error.sqlstate})")
                    del rows[0]
                self.portion = max(len(portion) // 2, 1)
            except (psycopg.errors.QueryCanceled, psycopg.errors.LockNotAvailable):
                if len(portion) == 1:
                    self.outcome.fail(rows, _TOOK_TOO_LONG)
                    return
                self.portion = 1
            else:
                self.outcome.take(portion)
                del rows[: len(portion)]
                if len(portion) == self.portion:
                    self.portion = next_portion(self.portion, self.last_seconds)

    def _insert(self, tenant_id: UUID, rows: Sequence[sa.Row[Any]]) -> None:
        began = self.clock.elapsed()
        try:
            with self.session.in_tenant(tenant_id) as cursor:
                cursor.execute(_INSERT, (tenant_id, *_columns(rows)))
        finally:
            self.last_seconds = self.clock.elapsed() - began

    def _has_time(self) -> bool:
        # What took a while will take as long again: to begin it with less left would only have it cancelled.
        return self.clock.left() > self.last_seconds


@dataclass(slots=True)
class _Outcome:
    """Marks rows in the journal as portions are done, and counts."""

    store: OpsStore
    clock: TickClock
    delivered: int = 0
    refused: int = 0
    error: str | None = None

    def take(self, rows: Sequence[sa.Row[Any]]) -> None:
        with self.store.begin() as connection:
            _mark(connection, rows, delivered_at=self.clock.now(), last_error=None)
        self.delivered += len(rows)

    def refuse(self, rows: Sequence[sa.Row[Any]], reason: str) -> None:
        with self.store.begin() as connection:
            _mark(connection, rows, refused_at=self.clock.now(), last_error=reason)
            _open_refusal(connection, rows[0].tenant_id, reason, self.clock.now())
        self.refused += len(rows)

    def fail(self, rows: Sequence[sa.Row[Any]], error: str) -> None:
        self.error = error
        with self.store.begin() as connection:
            _mark(connection, rows, last_error=error)

    def report(self) -> DeliveryReport:
        with self.store.begin() as connection:
            count = sa.select(sa.func.count()).select_from(audit_entry).where(*_OWED)
            owed = int(connection.execute(count).scalar_one())
        return DeliveryReport(self.delivered, self.refused, owed, self.error)


_OWED = (
    audit_entry.c.delivered_at.is_(None),
    audit_entry.c.refused_at.is_(None),
    audit_entry.c.tenant_id.is_not(None),
)


def _owed_entries(connection: sa.Connection, now: datetime, limit: int) -> Sequence[sa.Row[Any]]:
    # Rows that failed before wait behind the others, and their tenants take turns at being first, so that the trouble
    # of one never holds up the rest.
    failed = audit_entry.c.last_error.is_not(None)
    turn = sa.func.hashtextextended(sa.cast(audit_entry.c.tenant_id, sa.Text), int(now.timestamp()))
    order = (failed, sa.case((failed, turn)), audit_entry.c.created_at, audit_entry.c.id)
    return connection.execute(sa.select(audit_entry).where(*_OWED).order_by(*order).limit(limit)).all()


def _by_tenant(entries: Sequence[sa.Row[Any]]) -> dict[UUID, list[sa.Row[Any]]]:
    tenants: dict[UUID, list[sa.Row[Any]]] = {}
    for entry in entries:
        tenants.setdefault(entry.tenant_id, []).append(entry)
    return tenants


def _columns(rows: Sequence[sa.Row[Any]]) -> tuple[list[object], ...]:
    return (
        [row.id for row in rows],
        [row.action for row in rows],
        [row.resource_type for row in rows],
        [row.resource_id for row in rows],
        [Jsonb(row.detail) for row in rows],
        [row.created_at for row in rows],
    )


def _mark(connection: sa.Connection, rows: Sequence[sa.Row[Any]], **values: object) -> None:
    ids = [row.id for row in rows]
    connection.execute(sa.update(audit_entry).where(audit_entry.c.id.in_(ids), *_OWED).values(**values))


def _open_refusal(connection: sa.Connection, tenant_id: UUID, reason: str, now: datetime) -> None:
    refused = sa.and_(audit_entry.c.tenant_id == tenant_id, audit_entry.c.refused_at.is_not(None))
    newest = sa.select(audit_entry.c.id).where(refused).order_by(audit_entry.c.refused_at.desc(), audit_entry.c.id)
    detail = {
        "reason": reason,
        "entries": [str(each) for each in connection.execute(newest.limit(_NAMED_IN_FINDING)).scalars()],
        "next_step": "The rows stay in the ops store (audit_entry, refused_at); keep them with the tenant's archive.",
    }
    open_finding(connection, UNDELIVERABLE, f"tenant {tenant_id}", detail, now)
