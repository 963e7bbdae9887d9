"""Audit rows that the orchestrator owes the backend: journalled with the act, delivered afterwards.

Belongs here: the journal in the ops store, and its delivery into `accounts_auditlog`. Does not belong here: which acts
are audited (each domain calls `record` in the transaction of its act), archiving (the audit log's own domain). The act
and its journal row are committed together; delivery repeats the row's own id, so however often it is tried, or dies
half-way, the backend has each row once. A backend that is down delays a row; only one that can never take it refuses.
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
# Without a conflict target, so that our role needs no right to read the audit log.
_INSERT = """
insert into accounts_auditlog (id, tenant_id, user_id, action, resource_type, resource_id, metadata, created_at)
values (%s, %s, null, %s, %s, %s, %s, %s) on conflict do nothing
"""


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


def record(connection: sa.Connection, entry: AuditEntry) -> None:
    """Journals the entry in the caller's transaction; the same entry twice is one row.

    Raises:
        ValueError: The backend's columns could never hold it.
    """
    for name, longest in _LONGEST.items():
        if len(getattr(entry, name)) > longest:
            raise ValueError(f"an audit row's {name} holds {longest} characters, not {getattr(entry, name)!r}")
    row = insert(audit_entry).values(
        id=entry.id,
        tenant_id=entry.tenant_id,
        action=entry.action,
        resource_type=entry.resource_type,
        resource_id=entry.resource_id,
        detail={**entry.detail, "actor": entry.actor},
        created_at=entry.created_at,
    )
    connection.execute(row.on_conflict_do_nothing(index_elements=[audit_entry.c.id]))


def deliver(settings: Settings, store: OpsStore, now: datetime, limit: int = 500) -> DeliveryReport:
    """Delivers owed rows, tenant by tenant, and marks them; what fails for a while is owed until the next time.

    Args:
        settings: The backend's address.
        store: Where the journal is.
        now: The moment of delivery.
        limit: Rows that one call takes; rows that failed before come after those that did not.
    """
    with store.exclusive(LOCK) as mine:
        if not mine:
            return DeliveryReport(busy=True)
        with store.begin() as connection:
            entries = _owed_entries(connection, limit)
        if not entries:
            return DeliveryReport()
        outcome = _Outcome(store, now)
        try:
            with BackendDatabase(settings.backend).session() as session:
                for tenant_id, rows in _by_tenant(entries).items():
                    outcome.take(rows, _insert_for_tenant(session, tenant_id, rows))
        except BackendDatabaseError as error:
            outcome.fail(entries, str(error))
        return outcome.report()


@dataclass(slots=True)
class _Outcome:
    """Marks rows in the journal as tenants are done, and counts."""

    store: OpsStore
    now: datetime
    delivered: int = 0
    refused: int = 0
    error: str | None = None

    def take(self, rows: Sequence[sa.Row[Any]], refusals: Mapping[UUID, str]) -> None:
        delivered = [row.id for row in rows if row.id not in refusals]
        with self.store.begin() as connection:
            _mark(connection, delivered, delivered_at=self.now, last_error=None)
            for entry_id, reason in refusals.items():
                _mark(connection, [entry_id], refused_at=self.now, last_error=reason)
            if refusals:
                _open_refusal(connection, rows[0].tenant_id, refusals, self.now)
        self.delivered += len(delivered)
        self.refused += len(refusals)

    def fail(self, entries: Sequence[sa.Row[Any]], error: str) -> None:
        self.error = error
        with self.store.begin() as connection:
            _mark(connection, [row.id for row in entries], last_error=error)

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


def _owed_entries(connection: sa.Connection, limit: int) -> Sequence[sa.Row[Any]]:
    # Rows that failed before wait behind the others, so that one tenant's trouble never holds up the rest.
    order = (audit_entry.c.last_error.is_not(None), audit_entry.c.created_at, audit_entry.c.id)
    return connection.execute(sa.select(audit_entry).where(*_OWED).order_by(*order).limit(limit)).all()


def _by_tenant(entries: Sequence[sa.Row[Any]]) -> dict[UUID, list[sa.Row[Any]]]:
    tenants: dict[UUID, list[sa.Row[Any]]] = {}
    for entry in entries:
        tenants.setdefault(entry.tenant_id, []).append(entry)
    return tenants


def _insert_for_tenant(session: BackendSession, tenant_id: UUID, rows: Sequence[sa.Row[Any]]) -> dict[UUID, str]:
    """Inserts one tenant's rows in one transaction; returns why the backend can never take some of them, by id."""
    try:
        with session.in_tenant(tenant_id) as cursor:
            cursor.executemany(_INSERT, [_values(row) for row in rows])
    except psycopg.errors.ForeignKeyViolation:
        return {row.id: "the backend does not have this tenant any more" for row in rows}
    except (psycopg.IntegrityError, psycopg.DataError) as error:
        if len(rows) == 1:
            return {rows[0].id: f"the backend cannot hold this row ({error.sqlstate})"}
        refusals = (_insert_for_tenant(session, tenant_id, [row]) for row in rows)
        return {entry_id: reason for refusal in refusals for entry_id, reason in refusal.items()}
    return {}


def _values(row: sa.Row[Any]) -> tuple[object, ...]:
    return row.id, row.tenant_id, row.action, row.resource_type, row.resource_id, Jsonb(row.detail), row.created_at


def _mark(connection: sa.Connection, ids: Sequence[UUID], **values: object) -> None:
    if ids:
        connection.execute(sa.update(audit_entry).where(audit_entry.c.id.in_(ids), *_OWED).values(**values))


def _open_refusal(connection: sa.Connection, tenant_id: UUID, refusals: Mapping[UUID, str], now: datetime) -> None:
    detail = {
        "reason": next(iter(refusals.values())),
        "entries": [str(entry_id) for entry_id in refusals],
        "next_step": "The rows stay in the ops store (audit_entry, refused_at); keep them with the tenant's archive.",
    }
    open_finding(connection, UNDELIVERABLE, f"tenant {tenant_id}", detail, now)
