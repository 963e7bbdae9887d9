"""Restores as everybody else meets them: their lock, the end of a run, and the audit rows that it owes.

Belongs here: the entries of restores in the journal. Does not belong here: restoring (`restore`). Retention closes the
entries of restores that died, for nobody may ever restore again. Rows are promised to the ledger before they are
committed to the table: what was promised and never came has not vanished.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from adinsights_orchestration.audit_log import journal
from adinsights_orchestration.audit_log.model import At
from adinsights_orchestration.audit_log.source import NOBODY, Source
from adinsights_orchestration.backend.audit import AuditEntry, record
from adinsights_orchestration.ops_store.audit_tables import audit_run
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.tenants.store import load_registry

KIND = "restore"
RESTORED = "audit_log_restored"
PROMISED = "promised"  # in a run's summary, each as `Promise.written`
_OPEN_PROMISES = sa.text("""
select c.tenant_id, c.day, c.left_rows, cast(p.value->>'before' as bigint) as before
  from adinsights_ops.audit_run r
       cross join lateral jsonb_array_elements(r.summary->'promised') p
       join adinsights_ops.audit_chunk c
         on c.source = r.source and c.tenant_id = cast(p.value->>'tenant' as uuid)
        and c.day = cast(p.value->>'day' as date) and c.revision = cast(p.value->>'revision' as int)
        and c.changed_at = cast(p.value->>'at' as timestamptz)
 where r.source = :source and r.kind = 'restore' and jsonb_typeof(r.summary->'promised') = 'array'
   and c.state = 'sealed'
 order by r.started_at""")
_ABOUT = ("into", "first", "end", "hold_until")
_DIED = "the run died; what it had restored stays, and the same command goes on"


@dataclass(frozen=True, slots=True)
class Promise:
    """What a restore was about to commit to the table of a tenant's day, and may never have.

    Attributes:
        rows: As many rows would be there then.
        before: As many were there if it was not committed.
    """

    rows: int
    before: int

    def written(self, tenant: UUID, day: date, revision: int, at: datetime) -> dict[str, Any]:
        """For the run's summary; holds as long as nobody else has changed the chunk since `at`."""
        where = {"tenant": str(tenant), "day": day.isoformat(), "revision": revision, "at": at.isoformat()}
        return {**where, "before": self.before}


def open_promises(connection: sa.Connection, source: str) -> dict[At, Promise]:
    """The promises of restores that are under way, died or failed, of chunks that nobody has changed since."""
    found = connection.execute(_OPEN_PROMISES, {"source": source})
    return {(row.tenant_id, row.day): Promise(row.left_rows, row.before) for row in found}


def never_came(promises: Mapping[At, Promise], there: Mapping[At, int]) -> dict[At, Promise]:
    """Those that were not committed: a COMMIT brings a tenant's day whole, so that no more than before is there."""
    return {at: promise for at, promise in promises.items() if there.get(at, 0) <= promise.before < promise.rows}


def lock_name(source: Source) -> str:
    """Held by whoever restores rows of a table, wherever they go."""
    return f"audit_log_restore:{source.name}"


def close_run(
    store: OpsStore, source: Source, run: UUID, now: datetime, summary: Mapping[str, Any], error: str | None
) -> None:
    """Closes a restore's entry, and journals one audit row for each tenant of whose rows it brought or holds some."""
    left = {tenant.id for tenant in load_registry(store).tenants if tenant.retired}
    with store.begin() as connection:
        opened = connection.execute(sa.select(audit_run).where(audit_run.c.id == run)).one()
        brought: Mapping[str, list[int]] = opened.summary.get("tenants", {})
        known = {name: opened.summary[name] for name in _ABOUT if name in opened.summary}
        summary = {**known, **summary}
        for tenant, (days, rows) in brought.items():
            detail = {
                "tenant": tenant,
                "days": days,
                "rows": rows,
                "source": source.name,
                "run": str(run),
                "dagster_run": opened.run_id,
                **{name: summary[name] for name in _ABOUT if name in summary},
            }
            nobodys = UUID(tenant) in {NOBODY, *left}  # the log of a tenant who has left is nobody's to read
            entry = AuditEntry(
                tenant_id=None if nobodys else UUID(tenant),
                action=RESTORED,
                resource_type=journal.RESOURCE,
                resource_id=source.name[:64],
                actor=opened.actor,
                created_at=now,
                detail=detail,
                id=uuid.uuid5(run, tenant),
            )
            record(connection, entry)
        promised = {PROMISED: opened.summary[PROMISED]} if error and PROMISED in opened.summary else {}
        journal.end_run(connection, run, now, {**summary, "tenants": brought, **promised}, error)


def close_dead_runs(store: OpsStore, source: Source, now: datetime) -> None:
    """Closes the entries of restores that died; the caller holds `lock_name`."""
    for row in journal.open_runs(store, source.name, KIND):
        close_run(store, source, row.id, now, {}, _DIED)


def account_for_the_dead(store: OpsStore, source: Source, now: datetime) -> None:
    """Closes the entries of restores that died, unless somebody restores at this moment: then another night does."""
    with store.exclusive(lock_name(source)) as mine:
        if mine:
            close_dead_runs(store, source, now)
