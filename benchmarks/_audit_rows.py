"""A backend with a realistic audit log: skewed tenants with users, many days, JSON of a few hundred bytes.

Making millions of rows takes longer than most of what is measured on them. KEEP names a folder in which the server and
every size that was once made stay: a benchmark works on a copy of the database, and drops it in the end.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from time import monotonic

import psycopg
from psycopg import sql
from pydantic import SecretStr

from adinsights_orchestration.local.backend.schema import create_schema
from adinsights_orchestration.local.postgres import EmbeddedPostgres, wheel_binaries
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import AuditLogSettings, BackendSettings, OpsStoreSettings, Settings
from benchmarks._machine import free_port

FIRST = date(2024, 1, 1)
_TENANTS = """
insert into accounts_tenant
select md5('tenant' || n)::uuid, 'Tenant ' || n, '2023-01-01' from generate_series(0, %s) n"""
_USERS = """
insert into accounts_user
select md5('user' || n || '.' || u)::uuid, md5('tenant' || n)::uuid, 'user' || u || '@tenant' || n || '.example.com'
  from generate_series(0, %s) n, generate_series(0, {last_user}) u"""
_USERS_PER_TENANT = 8
# One row in five is of nobody: a service, or a user who is gone.
_ROWS = """
insert into accounts_auditlog
select md5('row' || n)::uuid, md5('tenant' || tenant)::uuid,
       case when n % 5 > 0 then md5('user' || tenant || '.' || n % {users})::uuid end,
       (array['login', 'logout', 'credential_changed', 'role_changed', 'airbyte_sync_triggered'])[1 + n % 5],
       (array['user', 'credential', 'role', 'airbyte_connection'])[1 + n % 4], md5('resource' || n % 9000),
       jsonb_build_object('ip', '10.0.' || n % 250 || '.' || n % 199, 'email', md5(n::text) || '@example.com',
                          'agent', 'Mozilla/5.0 (X11; Linux x86_64) ' || md5((n * 7)::text),
                          'request', md5((n * 3)::text)),
       timestamptz '2024-01-01Z' + n * ({days} * interval '1 day' / {rows})
  from (select n, floor({tenants} * power(random(), 2))::int as tenant from generate_series(0, {rows} - 1) n) drawn"""


@dataclass(frozen=True)
class Bench:
    """A filled backend, an ops store, an empty archive."""

    settings: Settings
    ops: OpsStore
    dsn: str
    psql: Path

    def floor_seconds(self) -> float:
        """Seconds of a binary COPY of the whole table into /dev/null, by psql, which only hands them on."""
        query = (
            "copy (select id, tenant_id, user_id, action, resource_type, resource_id, metadata, created_at"
            " from accounts_auditlog) to stdout (format binary)"
        )
        began = monotonic()
        with Path("/dev/null").open("wb") as nothing:
            subprocess.run([str(self.psql), self.dsn, "-qXc", query], stdout=nothing, check=True)
        return monotonic() - began


@contextmanager
def filled(rows: int, tenants: int, days: int) -> Iterator[Bench]:
    """So many rows of so many tenants over so many days, on a server with durable commits."""
    with tempfile.TemporaryDirectory(prefix="adinsights-bench-") as folder:
        Path(folder).chmod(0o755)
        kept = Path(os.environ.get("KEEP") or folder)
        kept.mkdir(mode=0o755, parents=True, exist_ok=True)
        server = EmbeddedPostgres(
            kept / "pg",
            free_port(),
            settings={"max_wal_size": "8GB", "shared_buffers": "1GB"},
            die_with_parent=True,
        )
        server.start()
        try:
            dsn = _copy_of(server, rows, tenants, days)
            ops_dsn = _fresh(server, "ops", "template0")
            ops = OpsStore(OpsStoreSettings(dsn=SecretStr(ops_dsn)))
            ops.migrate()
            settings = Settings(
                backend=BackendSettings(dsn=SecretStr(dsn)),
                ops_store=OpsStoreSettings(dsn=SecretStr(ops_dsn)),
                audit_log=_archive(Path(folder) / "archive"),
            )
            yield Bench(settings, ops, dsn, wheel_binaries() / "psql")
            ops.dispose()
            _drop(server, "backend")
        finally:
            server.stop()


def _copy_of(server: EmbeddedPostgres, rows: int, tenants: int, days: int) -> str:
    """A database of one's own with the rows, which are made where they were never made before."""
    name = f"rows_{rows}_{tenants}_{days}"
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        made = connection.execute("select from pg_database where datname = %s", (name,)).fetchone()
    if made is None:
        making = _fresh(server, "making", "template0")
        create_schema(making)
        with psycopg.connect(making, autocommit=True) as connection:
            connection.execute(_TENANTS, (tenants - 1,))
            connection.execute(_USERS.format(last_user=_USERS_PER_TENANT - 1), (tenants - 1,))
            connection.execute(_ROWS.format(tenants=tenants, days=days, rows=rows, users=_USERS_PER_TENANT))
            connection.execute("vacuum (freeze, analyze) accounts_auditlog")
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute(sql.SQL("alter database making rename to {}").format(sql.Identifier(name)))
    return _fresh(server, "backend", name)


def _fresh(server: EmbeddedPostgres, name: str, template: str) -> str:
    _drop(server, name)
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(
            sql.SQL("create database {} template {} strategy file_copy").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
        connection.execute("checkpoint")
    return server.dsn(name)


def _drop(server: EmbeddedPostgres, name: str) -> None:
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        connection.execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))


def _archive(folder: Path) -> AuditLogSettings:
    """A folder, or the bucket that the variables name as they do for the product."""
    named = Settings().audit_log
    url = named.archive_url if named.archive_url.startswith(("s3:", "gs:")) else folder.as_uri()
    return named.model_copy(update={"archive_url": url, "first_day": FIRST})
