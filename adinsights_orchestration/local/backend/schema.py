"""The backend's tables, roles and policies.

Belongs here: DDL as the product's backend has it, row level security included: enabled, not forced, so that the owner
sees every tenant and other roles see one. Does not belong here: rows (`local.seed`). `accounts_auditlog` has no index
on `created_at`, on purpose: production's has none either.
"""

from __future__ import annotations

from datetime import datetime

import psycopg
from psycopg import sql

from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.local.seed import seed_backend
from adinsights_orchestration.local.settings import LocalSettings

APP_ROLE = "adinsights_app"
APP_PASSWORD = "adinsights-app-local"  # noqa: S105  (loopback only)
_SCHEMA_LOCK = 6_031_772

_TABLES = """
create table if not exists accounts_tenant (
  id uuid primary key,
  name varchar(255) not null,
  created_at timestamptz not null
);
create table if not exists accounts_user (
  id uuid primary key,
  tenant_id uuid not null references accounts_tenant (id) on delete cascade,
  email varchar(254) not null
);
create table if not exists accounts_auditlog (
  id uuid primary key,
  tenant_id uuid not null references accounts_tenant (id) on delete cascade,
  user_id uuid null references accounts_user (id) on delete set null,
  action varchar(128) not null,
  resource_type varchar(64) not null,
  resource_id varchar(64) not null,
  metadata jsonb not null,
  created_at timestamptz not null
);
create index if not exists accounts_auditlog_tenant_id_idx on accounts_auditlog (tenant_id);
create index if not exists accounts_auditlog_user_id_idx on accounts_auditlog (user_id);
create table if not exists integrations_airbyteconnection (
  id uuid primary key,
  tenant_id uuid not null references accounts_tenant (id) on delete cascade,
  provider varchar(16) null,
  name varchar(255) not null,
  connection_id uuid not null,
  workspace_id uuid null,
  schedule_type varchar(16) not null check (schedule_type in ('manual', 'interval', 'cron')),
  interval_minutes int null,
  cron_expression varchar(128) not null default '',
  is_active boolean not null default true,
  last_synced_at timestamptz null,
  last_job_id varchar(64) not null default '',
  last_job_status varchar(32) not null default '',
  last_job_created_at timestamptz null,
  last_job_updated_at timestamptz null,
  last_job_completed_at timestamptz null,
  last_job_error text not null default '',
  created_at timestamptz not null,
  updated_at timestamptz not null,
  unique (tenant_id, connection_id)
);
create index if not exists integrations_airbyteconnection_tenant_id_idx on integrations_airbyteconnection (tenant_id);
create table if not exists integrations_airbytejobtelemetry (
  id uuid primary key,
  tenant_id uuid not null references accounts_tenant (id) on delete cascade,
  connection_id uuid not null references integrations_airbyteconnection (id) on delete cascade,
  job_id varchar(64) not null,
  status varchar(32) not null,
  started_at timestamptz not null,
  duration_seconds int null,
  records_synced bigint null,
  bytes_synced bigint null,
  created_at timestamptz not null,
  unique (connection_id, job_id)
);
"""
_TENANT_TABLES = ("accounts_auditlog", "integrations_airbyteconnection", "integrations_airbytejobtelemetry")
_POLICY = """
alter table {table} enable row level security;
drop policy if exists tenant_isolation on {table};
create policy tenant_isolation on {table} using (tenant_id = current_setting('app.tenant_id')::uuid);
"""
_ROLE = """
do $$ begin
  create role {role} login password {password};
exception when duplicate_object or unique_violation then null;
end $$
"""
_GRANTS = """
grant select on accounts_tenant, accounts_user, integrations_airbyteconnection, integrations_airbytejobtelemetry
  to {role};
grant select, insert, delete on accounts_auditlog to {role};
"""


def prepare_backend(_: LocalSettings, dsn: str, now: datetime | None = None) -> None:
    """Makes the backend's tables, roles and policies, and the demo's rows, where they are missing.

    Args:
        _: The local stack's settings; nothing of the tables depends on them.
        dsn: The backend's database, with its owner.
        now: The moment of creation; the present when None.
    """
    create_schema(dsn)
    seed_backend(dsn, now or utc_now())


def create_schema(dsn: str) -> None:
    """Makes tables, policies and the application's role; several processes may do so at once."""
    role = sql.Identifier(APP_ROLE)
    with psycopg.connect(dsn) as connection:
        connection.execute("select pg_advisory_xact_lock(%s)", (_SCHEMA_LOCK,))
        connection.execute(_TABLES)
        for table in _TENANT_TABLES:
            connection.execute(sql.SQL(_POLICY).format(table=sql.Identifier(table)))
        connection.execute(sql.SQL(_ROLE).format(role=role, password=sql.Literal(APP_PASSWORD)))
        connection.execute(sql.SQL(_GRANTS).format(role=role))
