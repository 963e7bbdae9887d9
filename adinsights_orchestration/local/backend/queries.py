"""What the backend's endpoints read from its database and from the warehouse.

Belongs here: SQL and rows as values. Does not belong here: HTTP and judgement. The backend reads as the tables'
owner, so row level security does not bind it, and every statement that is about one tenant names it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.rows import class_row, dict_row

from adinsights_orchestration.local.backend.health import LastSync

_RECENT_JOBS = 10
_ANY_CONNECTION = "select exists (select from integrations_airbyteconnection)"
_LAST_SYNC = """
select tenant_id::text, last_synced_at, last_job_id, last_job_status, last_job_error, last_job_updated_at
  from integrations_airbyteconnection
 where last_synced_at is not null
 order by last_synced_at desc
 limit 1
"""
_JOBS = """
select t.tenant_id::text, c.connection_id::text, t.job_id, t.status, t.started_at, t.duration_seconds,
       t.records_synced, t.bytes_synced
  from integrations_airbytejobtelemetry t
  join integrations_airbyteconnection c on c.id = t.connection_id
 order by t.created_at desc
 limit %s
"""
_AUDIT = """
select id::text, tenant_id::text, user_id::text, action, resource_type, resource_id, metadata, created_at
  from accounts_auditlog
 where (%(action)s::text is null or action = %(action)s)
   and (%(resource_type)s::text is null or resource_type = %(resource_type)s)
   and (%(tenant)s::uuid is null or tenant_id = %(tenant)s)
 order by created_at desc
 limit %(limit)s offset %(offset)s
"""
_FACTS = ("fct_ad_performance", "fct_web_traffic_daily", "fct_search_performance_daily")
_TOTALS = """
select coalesce(sum(impressions), 0)::bigint as impressions, coalesce(sum(clicks), 0)::bigint as clicks,
       coalesce(sum(spend), 0)::float8 as spend, coalesce(sum(conversions), 0)::float8 as conversions
  from {schema}.fct_ad_performance
 where tenant_id::text = %s
"""


@dataclass(frozen=True, slots=True)
class SyncState:
    """What the Airbyte health endpoint needs."""

    configured: bool
    last: LastSync | None
    jobs: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """Which audit rows are asked for."""

    action: str | None = None
    resource_type: str | None = None
    tenant: UUID | None = None
    limit: int = 50
    offset: int = 0


def sync_state(dsn: str) -> SyncState:
    """Reads the most recently synced connection and the newest jobs."""
    with psycopg.connect(dsn, connect_timeout=3) as database:
        configured = database.execute(_ANY_CONNECTION).fetchone()
        with database.cursor(row_factory=class_row(LastSync)) as cursor:
            last = cursor.execute(_LAST_SYNC).fetchone()
        with database.cursor(row_factory=dict_row) as rows:
            jobs = rows.execute(_JOBS, (_RECENT_JOBS,)).fetchall()
    return SyncState(bool(configured and configured[0]), last, [_shown(job) for job in jobs])


def audit_rows(dsn: str, wanted: AuditFilter) -> list[dict[str, Any]]:
    """Reads audit rows, newest first."""
    with psycopg.connect(dsn, connect_timeout=3) as database, database.cursor(row_factory=dict_row) as cursor:
        parameters = {
            "action": wanted.action,
            "resource_type": wanted.resource_type,
            "tenant": wanted.tenant,
            "limit": wanted.limit,
            "offset": wanted.offset,
        }
        return [_shown(row) for row in cursor.execute(_AUDIT, parameters).fetchall()]


def tenant_exists(dsn: str, tenant: UUID) -> bool:
    """Whether the backend has the tenant."""
    with psycopg.connect(dsn, connect_timeout=3) as database:
        return database.execute("select from accounts_tenant where id = %s", (tenant,)).fetchone() is not None


def dashboard_snapshot(warehouse_dsn: str, schema: str, tenant: UUID) -> tuple[datetime | None, dict[str, Any]]:
    """When the newest of the tenant's fact rows was built, and the tenant's totals; nothing before the first build."""
    with psycopg.connect(warehouse_dsn, connect_timeout=3) as database:
        built = [_built_at(database, schema, fact, tenant) for fact in _FACTS]
        if not _has_table(database, schema, _FACTS[0]):
            return None, {}
        with database.cursor(row_factory=dict_row) as cursor:
            statement = sql.SQL(_TOTALS).format(schema=sql.Identifier(schema))
            totals = cursor.execute(statement, (str(tenant),)).fetchone()
    return max((moment for moment in built if moment), default=None), dict(totals or {})


def _built_at(database: psycopg.Connection[Any], schema: str, fact: str, tenant: UUID) -> datetime | None:
    if not _has_table(database, schema, fact):
        return None
    statement = sql.SQL("select max(built_at) from {} where tenant_id::text = %s").format(sql.Identifier(schema, fact))
    row = database.execute(statement, (str(tenant),)).fetchone()
    return row[0] if row else None


def _has_table(database: psycopg.Connection[Any], schema: str, table: str) -> bool:
    row = database.execute("select to_regclass(format('%%I.%%I', %s::text, %s::text))", (schema, table)).fetchone()
    return row is not None and row[0] is not None


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {key: value.isoformat() if isinstance(value, datetime) else value for key, value in row.items()}
