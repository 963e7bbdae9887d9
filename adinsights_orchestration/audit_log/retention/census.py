"""What a table holds now, by tenant and day: one scan that answers every question about age.

Belongs here: the scan, and what it means beside the windows and the ledger. Does not belong here: deleting.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from uuid import UUID

from psycopg import sql

from adinsights_orchestration.audit_log.days import span
from adinsights_orchestration.audit_log.retention.deletion import NOBODY, Chunk
from adinsights_orchestration.audit_log.table.access import Access
from adinsights_orchestration.audit_log.table.reaching import Link
from adinsights_orchestration.audit_log.table.statements import Shape, midnight
from adinsights_orchestration.audit_log.windows import Policy, Why

LATE_AFTER = timedelta(days=2)  # beyond its window, before a row that is still there is a fault


@dataclass(frozen=True, slots=True)
class Census:
    """How many rows of every tenant's day a table holds, up to a day."""

    rows: Mapping[Chunk, int]
    undated: int = 0

    @property
    def oldest(self) -> date | None:
        """The oldest day of which there are rows."""
        return min((day for _, day in self.rows), default=None)

    def per_day(self) -> dict[date, int]:
        """Rows of every day from the oldest to the newest; a day without any has none."""
        counted = Counter[date]()
        for (_, day), rows in self.rows.items():
            counted[day] += rows
        return {day: counted[day] for day in span(min(counted), max(counted))} if counted else {}


@dataclass(frozen=True, slots=True)
class Ages:
    """What a census says of a table.

    Attributes:
        overdue: Rows that are older than their window and two days, and that nothing holds.
        held: Rows past their window that a hold keeps.
        unknown: Rows older than a year of tenants that the registry does not know, by tenant.
        vanished: Rows that were archived and left the table before their time, by tenant's day.
    """

    overdue: dict[Chunk, int] = field(default_factory=dict)
    held: dict[Chunk, int] = field(default_factory=dict)
    unknown: dict[UUID, int] = field(default_factory=dict)
    vanished: dict[Chunk, int] = field(default_factory=dict)


def take_census(
    connection: Link,
    shape: Shape,
    access: Access,
    tenants: Sequence[UUID],
    before: date,
) -> Census:
    """Counts the rows of every tenant's day before a day; of these tenants only where the role sees no others."""
    counted: dict[Chunk, int] = {}
    undated = 0
    for group in access.groups(tenants or [NOBODY]) if access.per_tenant else [tenants]:
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute("set local timezone = 'UTC'")
            access.stand_in(cursor, group)
            cursor.execute(_statement(shape), (midnight(before),))
            for whose, day, rows in cursor.fetchall():
                if day is None:
                    undated += rows
                else:
                    counted[whose if whose is not None else NOBODY, day] = rows
    return Census(counted, undated)


def judge_ages(census: Census, policy: Policy, in_table: Mapping[Chunk, int]) -> Ages:
    """What is too old, what is held, whose nobody knows, and what vanished.

    Args:
        census: Of the table.
        policy: Windows and holds.
        in_table: How many rows of every archived chunk should be there (`chunks.rows_in_table`).
    """
    ages = Ages()
    late = replace(policy, now=policy.now - LATE_AFTER)
    for (tenant, day), rows in census.rows.items():
        why = policy.judge(tenant, day)
        some_held = any(hold.covers(tenant, day) for hold in policy.resource_holds())
        if why is Why.UNKNOWN_TENANT and day < policy.latest_cutoff:
            ages.unknown[tenant] = ages.unknown.get(tenant, 0) + rows
        elif (why in (Why.LEGAL_HOLD, Why.RESTORED) or some_held) and _past(policy, tenant, day):
            ages.held[tenant, day] = rows
        elif why is Why.DUE and late.judge(tenant, day) is Why.DUE:
            ages.overdue[tenant, day] = rows
    for chunk, expected in in_table.items():
        missing = expected - census.rows.get(chunk, 0)
        if missing > 0 and policy.judge(*chunk) is Why.WINDOW:
            ages.vanished[chunk] = missing
    return ages


def _past(policy: Policy, tenant: UUID, day: date) -> bool:
    cutoff = policy.cutoff(tenant)
    return cutoff is not None and day < cutoff


def _statement(shape: Shape) -> sql.Composed:
    only = sql.SQL(" and ({})").format(shape.only) if shape.only is not None else sql.SQL("")
    return sql.SQL(
        "select {tenant}, {time}::date, count(*) from {table} t"
        " where ({time} < %s or {time} is null){only} group by 1, 2"
    ).format(
        tenant=sql.Identifier("t", shape.tenant) if shape.tenant else sql.SQL("null::uuid"),
        time=sql.Identifier("t", shape.time),
        table=shape.name,
        only=only,
    )
