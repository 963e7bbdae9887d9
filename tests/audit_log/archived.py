"""A backend and an ops store in which some of the audit log is archived, and a run of retention over them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import psycopg
import sqlalchemy as sa
from psycopg import sql
from pydantic import SecretStr
from sqlalchemy.dialects.postgresql import insert as upsert

from adinsights_orchestration.audit_log import digest
from adinsights_orchestration.audit_log.retention.run import Retention, RetentionReport
from adinsights_orchestration.audit_log.source import AUDIT_LOG, Column, Source
from adinsights_orchestration.audit_log.table.reaching import connected
from adinsights_orchestration.audit_log.table.statements import midnight
from adinsights_orchestration.ops_store.audit_tables import audit_chunk, audit_day
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import BackendSettings, OpsStoreSettings, RetentionSettings, Settings
from adinsights_orchestration.tenants import store as registry_store
from adinsights_orchestration.tenants.model import Registry, Tenant

NOW = datetime(2026, 11, 28, 7, tzinfo=UTC)
TODAY = NOW.date()
COLUMNS = (
    "select attname, format_type(atttypid, atttypmod) from pg_attribute"
    " where attrelid = %s::regclass and attnum > 0 and not attisdropped order by attnum"
)


def settings_for(backend: str, ops: str, **retention: object) -> Settings:
    return Settings(
        backend=BackendSettings(dsn=SecretStr(backend)),
        ops_store=OpsStoreSettings(dsn=SecretStr(ops)),
        retention=RetentionSettings.model_validate(retention),
    )


def serve(store: OpsStore, tenants: Iterable[Tenant], now: datetime = NOW) -> None:
    """Makes these tenants the registry that is in force."""
    registry = Registry(tuple(tenants), (), "test", now)
    with store.begin() as connection:
        last = registry_store.last_snapshot(store, connection)
        snapshot = registry_store.write_snapshot(connection, repr(registry.tenants), registry, last)
        registry_store.write_success(connection, snapshot, now)


def seal(
    settings: Settings, store: OpsStore, days: Sequence[date], source: Source = AUDIT_LOG, now: datetime = NOW
) -> None:
    """Writes to the ledger what an archive that ran now would have sealed of these days."""
    with connected(settings, source) as connection:
        connection.execute("set timezone = 'UTC'")
        columns = tuple(Column(*row) for row in connection.execute(COLUMNS, (source.table,)))
        major = connection.info.server_version // 10_000
        for day in days:
            rows = connection.execute(
                sql.SQL(
                    "select t.tenant_id, count(*), sum({}), sum({}) from {} t"
                    " where t.created_at >= %s and t.created_at < %s group by 1"
                ).format(digest.portable(columns), digest.fast(columns), sql.Identifier(source.table)),
                (midnight(day), midnight(day + timedelta(days=1))),
            ).fetchall()
            _seal_day(store, source, day, rows, columns, major, now)


def _seal_day(
    store: OpsStore,
    source: Source,
    day: date,
    rows: Sequence[tuple[UUID, int, int, int]],
    columns: Sequence[Column],
    major: int,
    now: datetime,
) -> None:
    chunk = audit_chunk.c
    with store.begin() as connection:
        mine = sa.and_(audit_day.c.source == source.name, audit_day.c.day == day)
        revision = (connection.execute(sa.select(sa.func.max(audit_day.c.revision)).where(mine)).scalar() or 0) + 1
        connection.execute(
            upsert(audit_day).values(
                source=source.name,
                day=day,
                revision=revision,
                sequence=1,
                rows=sum(row[1] for row in rows),
                columns=[[column.name, column.type] for column in columns],
                server_major=major,
                started_at=now,
                sealed_at=now,
            )
        )
        for tenant, count, portable, fast in rows:
            this = sa.and_(chunk.source == source.name, chunk.tenant_id == tenant, chunk.day == day)
            in_force = chunk.state.in_(("sealed", "deleting", "deleted"))
            connection.execute(sa.update(audit_chunk).where(this, in_force).values(state="superseded"))
            values = {"rows": count, "portable": portable, "left_rows": count, "left_portable": portable}
            connection.execute(
                sa.insert(audit_chunk).values(
                    source=source.name,
                    tenant_id=tenant,
                    day=day,
                    revision=revision,
                    state="sealed",
                    changed_at=now,
                    left_fast=fast,
                    **values,
                )
            )


@dataclass
class World:
    """What a test of retention works on."""

    backend: str
    store: OpsStore
    settings: Settings
    resealed: list[date] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)

    def retain(self, *, apply: bool = True, now: datetime = NOW, rearchive: bool = True) -> RetentionReport:
        """One run of retention, by hand of the test."""

        def again(source: Source, days: Sequence[date]) -> None:
            self.resealed += days
            seal(self.settings, self.store, days, source)

        hook: Callable[[Source, Sequence[date]], None] | None = again if rearchive else None
        return Retention(
            self.settings, self.store, AUDIT_LOG, lambda: now, "a test", hook, apply, sleep=self.slept.append
        ).run()

    def states(self) -> dict[str, int]:
        """Chunks by state."""
        with self.store.begin() as connection:
            rows = connection.execute(sa.select(audit_chunk.c.state, sa.func.count()).group_by(audit_chunk.c.state))
            return {row[0]: row[1] for row in rows}

    def execute(self, statement: str, *parameters: object) -> list[tuple[object, ...]]:
        """One statement as the backend's superuser."""
        with psycopg.connect(self.backend, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), parameters or None)
            return cursor.fetchall() if cursor.description else []
