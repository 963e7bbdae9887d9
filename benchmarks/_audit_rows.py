"""A backend with a realistic audit log: skewed tenants with users, many days, JSON of a few hundred bytes.

Making millions of rows takes longer than most of what is measured on them. KEEP names a folder in which the server and
every size that was once made stay: a benchmark works on a copy of the database, and drops it in the end.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from uuid import UUID

import psutil
import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb
from pydantic import SecretStr

from adinsights_orchestration.audit_log import digest
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from adinsights_orchestration.audit_log.table.catalog import columns_of
from adinsights_orchestration.audit_log.table.statements import midnight
from adinsights_orchestration.local.backend.schema import create_schema
from adinsights_orchestration.local.postgres import EmbeddedPostgres, wheel_binaries
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import AuditLogSettings, BackendSettings, OpsStoreSettings, Settings
from adinsights_orchestration.tenants import store as registry_store
from adinsights_orchestration.tenants.model import MINIMUM_RETENTION_DAYS, Registry, Tenant
from benchmarks._machine import Cost, free_port, measured

FIRST = date(2024, 1, 1)
_TENANTS = """
insert into accounts_tenant
select md5('tenant' || n)::uuid, 'Tenant ' || n, '2023-01-01' from generate_series(0, %s) n"""
_USERS = """
insert into accounts_user
select md5('user' || n || '.' || u)::uuid, md5('tenant' || n)::uuid, 'user' || u || '@tenant' || n || '.example.com'
  from generate_series(0, %s) n, generate_series(0, {last_user}) u"""
_USERS_PER_TENANT = 8
# Indexes are made afterwards, and keys hold by how rows are made: it takes a third of the time.
_BARE = """
set session_replication_role = replica;
alter table accounts_auditlog drop constraint accounts_auditlog_pkey;
drop index accounts_auditlog_tenant_id_idx, accounts_auditlog_user_id_idx"""
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
    server: EmbeddedPostgres
    rows: str

    def renew(self) -> None:
        """Makes the table what it was in the beginning."""
        _fresh(self.server, "backend", self.rows)

    def floor(self) -> Cost:
        """A binary COPY of the whole table into /dev/null, by psql, which only hands the bytes on."""
        query = (
            "copy (select id, tenant_id, user_id, action, resource_type, resource_id, metadata, created_at"
            " from accounts_auditlog) to stdout (format binary)"
        )
        with Path("/dev/null").open("wb") as nothing, self.measured() as cost:
            subprocess.run([str(self.psql), self.dsn, "-qXc", query], stdout=nothing, check=True)
        return cost

    def measured(self) -> AbstractContextManager[Cost]:
        """What the body takes, the server's part included."""
        return measured(self._server_cpu)

    def serve(self, tenants: int, now: datetime, window_days: int = MINIMUM_RETENTION_DAYS) -> None:
        """Makes all tenants known to the registry, with this window."""
        made = [
            Tenant(_tenant(number), f"Tenant {number}", f"tenant-{number}", retention_days=window_days)
            for number in range(tenants)
        ]
        registry = Registry(tuple(made), (), "benchmark", now)
        with self.ops.begin() as connection:
            last = registry_store.last_snapshot(self.ops, connection)
            snapshot = registry_store.write_snapshot(connection, "benchmark", registry, last)
            registry_store.write_success(connection, snapshot, now)

    def _server_cpu(self) -> float:
        postmaster = self.server.find()
        assert postmaster is not None
        while True:
            before = postmaster.cpu_times()[:4]  # those of its children that have ended included
            alive = 0.0
            for child in postmaster.children(recursive=True):
                with suppress(psutil.Error):
                    alive += sum(child.cpu_times()[:2])
            if postmaster.cpu_times()[:4] == before:  # else one has ended meanwhile, and is counted twice or not at all
                return float(sum(before) + alive)


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
            made = _made(server, rows, tenants, days)
            dsn = _fresh(server, "backend", made)
            ops_dsn = _fresh(server, "ops", "template0")
            ops = OpsStore(OpsStoreSettings(dsn=SecretStr(ops_dsn)))
            ops.migrate()
            settings = Settings(
                backend=BackendSettings(dsn=SecretStr(dsn)),
                ops_store=OpsStoreSettings(dsn=SecretStr(ops_dsn)),
                audit_log=_archive(Path(folder) / "archive"),
            )
            yield Bench(settings, ops, dsn, wheel_binaries() / "psql", server, made)
            ops.dispose()
            _drop(server, "backend")
        finally:
            server.stop()


@dataclass(frozen=True)
class Seals:
    """What an archive would have sealed of the days before a day.

    Attributes:
        columns: Of the table.
        server_major: Of the server that computed the fast digests.
        chunks: Tenant, day, rows, portable digest, fast digest.
    """

    columns: list[list[str]]
    server_major: int
    chunks: list[tuple[object, ...]]

    def put(self, bench: Bench, *, server_major: int | None = None) -> None:
        """Makes it the ledger's content, under this server's major version or another."""
        now, name = datetime.now(UTC), AUDIT_LOG.name
        with psycopg.connect(bench.settings.ops_store.dsn.get_secret_value()) as connection:
            connection.execute("truncate adinsights_ops.audit_chunk, adinsights_ops.audit_day")
            with connection.cursor() as cursor:
                cursor.executemany(
                    "insert into adinsights_ops.audit_day"
                    " (source, day, revision, sequence, columns, server_major, started_at, sealed_at)"
                    " values (%s, %s, 1, 1, %s, %s, %s, %s)",
                    [
                        (name, day, Jsonb(self.columns), server_major or self.server_major, now, now)
                        for day in sorted({str(chunk[1]) for chunk in self.chunks})
                    ],
                )
                statement = (
                    "copy adinsights_ops.audit_chunk (source, tenant_id, day, revision, state, changed_at, rows,"
                    " portable, left_rows, left_portable, left_fast) from stdin"
                )
                with cursor.copy(statement) as copy:
                    for tenant, day, rows, portable, fast in self.chunks:
                        copy.write_row((name, tenant, day, 1, "sealed", now, rows, portable, rows, portable, fast))
            connection.execute("analyze adinsights_ops.audit_chunk")


def sealed(bench: Bench, end: date) -> Seals:
    """Reads the days before `end` and computes what an archive would seal."""
    with psycopg.connect(bench.dsn) as connection, connection.cursor() as cursor:
        cursor.execute("set timezone = 'UTC'")
        columns = columns_of(cursor, AUDIT_LOG)
        statement = sql.SQL(
            "select t.tenant_id, t.created_at::date, count(*), sum({}), sum({}) from accounts_auditlog t"
            " where t.created_at < %s group by 1, 2"
        ).format(digest.portable(columns), digest.fast(columns))
        chunks = cursor.execute(statement, (midnight(end),)).fetchall()
        major = connection.info.server_version // 10_000
    return Seals([[column.name, column.type] for column in columns], major, chunks)


def _tenant(number: int) -> UUID:
    return UUID(bytes=hashlib.md5(f"tenant{number}".encode(), usedforsecurity=False).digest())


def _made(server: EmbeddedPostgres, rows: int, tenants: int, days: int) -> str:
    """The name of the database with these rows, which are made where they were never made before."""
    name = f"rows_{rows}_{tenants}_{days}"
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        made = connection.execute("select from pg_database where datname = %s", (name,)).fetchone()
    if made is None:
        making = _fresh(server, "making", "template0")
        create_schema(making)
        with psycopg.connect(making, autocommit=True) as connection:
            connection.execute(_TENANTS, (tenants - 1,))
            connection.execute(_USERS.format(last_user=_USERS_PER_TENANT - 1), (tenants - 1,))
            connection.execute(_BARE)
            connection.execute(_ROWS.format(tenants=tenants, days=days, rows=rows, users=_USERS_PER_TENANT))
            connection.execute("alter table accounts_auditlog add primary key (id)")
            create_schema(making)  # its other indexes
            connection.execute("vacuum (freeze, analyze) accounts_auditlog")
        with psycopg.connect(server.dsn(), autocommit=True) as connection:
            connection.execute(sql.SQL("alter database making rename to {}").format(sql.Identifier(name)))
    return name


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
