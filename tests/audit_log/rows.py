"""Rows of an audit log for tests, and what a test must know of them."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

import psycopg
from psycopg import sql

from adinsights_orchestration.audit_log.model import At
from adinsights_orchestration.audit_log.retention.deletion import Content, Deleter, Ledger, Limits
from adinsights_orchestration.audit_log.retention.pace import Pace, PaceLimits
from adinsights_orchestration.audit_log.retention.walk import Walk, WalkReport
from adinsights_orchestration.audit_log.table.access import Access
from adinsights_orchestration.audit_log.table.statements import Shape
from adinsights_orchestration.audit_log.windows import Hold

TABLE = "accounts_auditlog"
FAST = sql.SQL(
    "hash_record_extended(row(t.id, t.tenant_id, t.user_id, t.action, t.resource_type, t.resource_id, t.metadata,"
    " t.created_at), 0)"
)
SHAPE = Shape(sql.Identifier(TABLE), "created_at", "tenant_id", FAST, "resource_type", "resource_id")
WHOLE = Access(per_tenant=False, reason="a test", server_major=16)
FIRST = date(2024, 1, 1)


@dataclass(frozen=True)
class Row:
    """One row of the audit log."""

    tenant: UUID
    at: datetime
    resource_type: str = "airbyte_connection"
    resource_id: str = "1"
    id: UUID = field(default_factory=uuid.uuid4)

    @property
    def day(self) -> date:
        return self.at.date()


def connect(dsn: str) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(dsn, autocommit=True)


def moment(day: date, seconds: float = 0) -> datetime:
    return datetime.combine(day, time(), UTC) + timedelta(seconds=seconds)


def some_rows(
    tenants: Sequence[UUID], days: int, per_day: int, *, rng: random.Random, first: date = FIRST
) -> list[Row]:
    """Rows in the order of their time, of tenants chosen at random."""
    seconds = sorted(rng.uniform(0, days * 86_400 - 1) for _ in range(days * per_day))
    start = moment(first)
    return [Row(rng.choice(tenants), start + timedelta(seconds=each)) for each in seconds]


def insert(dsn: str, rows: Iterable[Row]) -> None:
    with connect(dsn) as connection, connection.cursor() as cursor, connection.transaction():
        cursor.executemany(
            f"insert into {TABLE} values (%s, %s, null, 'login', %s, %s, %s, %s)",
            [
                (row.id, row.tenant, row.resource_type, row.resource_id, json.dumps({"n": str(row.id)}), row.at)
                for row in rows
            ],
        )


def ids(dsn: str) -> set[UUID]:
    with connect(dsn) as connection:
        return {UUID(str(row[0])) for row in connection.execute(f"select id from {TABLE}")}


def contents(dsn: str, before: date | None = None) -> dict[At, Content]:
    """What the table holds of every tenant's day before a day: what an archive would seal now."""
    with connect(dsn) as connection:
        connection.execute("set timezone = 'UTC'")
        rows = connection.execute(
            sql.SQL(
                "select t.tenant_id, t.created_at::date, count(*), sum({}) from {} t where t.created_at < %s"
                " group by 1, 2"
            ).format(FAST, SHAPE.name),
            (moment(before or date(2100, 1, 1)),),
        ).fetchall()
    return {(UUID(str(t)), d): Content(int(str(n)), int(str(h))) for t, d, n, h in rows if isinstance(d, date)}


@dataclass
class Memory:
    """A ledger that remembers, and lets a test act between a DELETE and its COMMIT."""

    begun: dict[At, Content] = field(default_factory=dict)
    finished: dict[At, Content] = field(default_factory=dict)
    refuse: bool = False

    def begin(self, staying: Mapping[At, Content]) -> bool:
        if self.refuse:
            return False
        self.begun |= staying
        return True

    def finish(self, staying: Mapping[At, Content]) -> None:
        self.finished |= staying
        for chunk in staying:
            del self.begun[chunk]

    def abandon(self, staying: Mapping[At, Content]) -> None:
        for chunk in staying:
            del self.begun[chunk]


def walk(
    dsn: str,
    expected: Mapping[At, Content],
    *,
    ledger: Ledger | None = None,
    indexed: bool = False,
    access: Access = WHOLE,
    holds: tuple[Hold, ...] = (),
    pages: bool = True,
    known: Iterable[At] | None = None,
) -> WalkReport:
    """One walk over the whole table; every day in `known`, or of what is expected, may go."""
    may_go = set(known if known is not None else expected)
    days = {day for _, day in may_go}
    with connect(dsn) as connection:
        size = connection.execute(f"select pg_relation_size('{TABLE}') / 8192").fetchone()
        assert size is not None
        deleter = Deleter(connection, SHAPE, access, ledger or Memory(), Limits(lock_timeout_seconds=0.1))
        return Walk(
            deleter,
            Pace(None, PaceLimits(transaction_seconds=0.02), sleep=lambda _: None),
            dict(expected),
            lambda tenant, day: (tenant, day) in may_go or day in days,
            holds,
            pages=int(str(size[0])) if pages else 0,
            indexed=indexed,
            per_tenant=access.per_tenant,
        ).run()
