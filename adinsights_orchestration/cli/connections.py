"""`adinsights connections`: every connection with its standing, schedule, last job and next due time.

Belongs here: one table from the registry and the ledger. Does not belong here: judging freshness.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import sqlalchemy as sa

from adinsights_orchestration.cli import process
from adinsights_orchestration.cli.sync import Providers, Tenants
from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import sync_job
from adinsights_orchestration.settings import Driver, Settings

if TYPE_CHECKING:
    from adinsights_orchestration.ingestion.due import Activity
    from adinsights_orchestration.tenants.model import Connection, Tenant

_STYLES = {"paused": "dim", "retired": "dim", "misconfigured": "yellow"}


def connections(tenant: Tenants = None, provider: Providers = None, as_json: process.JsonOption = False) -> None:
    """List connections with their last sync and the next time they are due."""
    from adinsights_orchestration.cli.selection import select, served

    settings = process.settings()
    store = process.open_ops_store(settings)
    registry = served(store)
    selection = select(registry, tenant or (), provider or (), ())
    jobs, activities = _newest_jobs(store), _activities(store, [each.connection_id for each in selection.chosen])
    wanted = sorted((*selection.chosen, *selection.skipped), key=lambda each: each.partition_key)
    now = utc_now()
    rows = []
    for each in wanted:
        due = _next_due(registry.tenant(each.tenant_id), each, activities.get(each.connection_id), settings, now)
        rows.append(_row(registry.tenant(each.tenant_id), each, jobs.get(each.partition_key), due))
    process.print_rows(rows, as_json=as_json, style=_style)


def _activities(store: OpsStore, connection_ids: list[UUID]) -> Mapping[UUID, Activity]:
    from adinsights_orchestration.ingestion import ledger

    with store.begin() as connection:
        return ledger.activity(connection, connection_ids)


def _newest_jobs(store: OpsStore) -> Mapping[str, sa.Row[Any]]:
    columns = (sync_job.c.partition_key, sync_job.c.job_id, sync_job.c.status, sync_job.c.started_at)
    query = (
        sa.select(*columns, sync_job.c.ended_at, sync_job.c.rows_synced, sync_job.c.failure_message)
        .distinct(sync_job.c.partition_key)
        .order_by(sync_job.c.partition_key, sync_job.c.started_at.desc(), sync_job.c.job_id.desc())
    )
    with store.begin() as connection:
        return {row.partition_key: row for row in connection.execute(query)}


def _row(tenant: Tenant, connection: Connection, job: sa.Row[Any] | None, due: datetime | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "tenant": tenant.slug,
        "provider": connection.provider.value,
        "partition": connection.partition_key,
        "standing": connection.standing.value,
        "schedule": connection.schedule.describe(),
        "last_job": job.job_id if job is not None else None,
        "status": job.status if job is not None else None,
        "ended_at": job.ended_at if job is not None else None,
        "rows": job.rows_synced if job is not None else None,
        "next_due_at": due,
    }
    problem = connection.problem or (job.failure_message if job is not None else None)
    return {**row, "problem": problem}


def _next_due(
    tenant: Tenant, connection: Connection, activity: Activity | None, settings: Settings, now: datetime
) -> datetime | None:
    """The slot that waits for its sync, else the next one; the next night where the environment plans by night.

    None for what is never due here: others start it, or nobody does.
    """
    from adinsights_orchestration.ingestion.due import IDLE, is_due
    from adinsights_orchestration.tenants.model import Standing
    from adinsights_orchestration.tenants.nights import nightly, when_due
    from adinsights_orchestration.tenants.slots import next_slot, slots

    if connection.standing is not Standing.ACTIVE or settings.ingestion.driver is Driver.EXTERNAL:
        return None
    nights, key = nightly(settings), connection.connection_id
    schedule, timezone = when_due(connection, tenant.timezone, nights)
    # A night's own schedule plans its starts: none of its slots waits for the trigger.
    waits = None if nights else is_due(connection, slots(schedule, timezone, now, key), activity or IDLE)
    return waits or next_slot(schedule, timezone, now, key)


def _style(row: Mapping[str, Any]) -> str:
    return "red" if row["status"] == "failed" else _STYLES.get(str(row["standing"]), "")
