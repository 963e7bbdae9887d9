"""Restores as everybody else meets them: their lock, the end of a run, and the audit rows that it owes.

Belongs here: the entries of restores in the journal. Does not belong here: restoring (`restore`). Retention closes the
entries of restores that died, for nobody may ever restore again.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from adinsights_orchestration.audit_log import journal
from adinsights_orchestration.audit_log.source import NOBODY, Source
from adinsights_orchestration.backend.audit import AuditEntry, record
from adinsights_orchestration.ops_store.audit_tables import audit_run
from adinsights_orchestration.ops_store.store import OpsStore

KIND = "restore"
RESTORED = "audit_log_restored"
_DIED = "the run died; what it had restored stays, and the same command goes on"


def lock_name(source: Source) -> str:
    """Held by whoever restores rows of a table, wherever they go."""
    return f"audit_log_restore:{source.name}"


def close_run(
    store: OpsStore, source: Source, run: UUID, now: datetime, summary: Mapping[str, Any], error: str | None
) -> None:
    """Closes a restore's entry, and journals one audit row for each tenant of whose rows it brought some."""
    with store.begin() as connection:
        opened = connection.execute(sa.select(audit_run).where(audit_run.c.id == run)).one()
        brought: Mapping[str, list[int]] = opened.summary.get("tenants", {})
        for tenant, (days, rows) in brought.items():
            detail = {
                "days": days,
                "rows": rows,
                "source": source.name,
                "run": str(run),
                "dagster_run": opened.run_id,
                **{name: summary[name] for name in ("into", "first", "end", "hold_until") if name in summary},
            }
            entry = AuditEntry(
                tenant_id=None if UUID(tenant) == NOBODY else UUID(tenant),
                action=RESTORED,
                resource_type=journal.RESOURCE,
                resource_id=source.name[:64],
                actor=opened.actor,
                created_at=now,
                detail=detail,
                id=uuid.uuid5(run, tenant),
            )
            record(connection, entry)
        journal.end_run(connection, run, now, {**summary, "tenants": brought}, error)


def close_dead_runs(store: OpsStore, source: Source, now: datetime) -> None:
    """Closes the entries of restores that died; the caller holds `lock_name`."""
    for row in journal.open_runs(store, source.name, KIND):
        close_run(store, source, row.id, now, {}, _DIED)


def account_for_the_dead(store: OpsStore, source: Source, now: datetime) -> None:
    """Closes the entries of restores that died, unless somebody restores at this moment: then another night does."""
    with store.exclusive(lock_name(source)) as mine:
        if mine:
            close_dead_runs(store, source, now)
