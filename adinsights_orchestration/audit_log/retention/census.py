"""What a table holds now, by tenant and day: one scan that answers every question about age.

Belongs here: the scan, and what it means beside the windows and the ledger. Does not belong here: deleting.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Any
from uuid import UUID

from psycopg import sql

from adinsights_orchestration.audit_log.bookkeeping.vanishing import Vanished
from adinsights_orchestration.audit_log.days import span
from adinsights_orchestration.audit_log.model import At
from adinsights_orchestration.audit_log.source import NOBODY
from adinsights_orchestration.audit_log.table.access import Access
from adinsights_orchestration.audit_log.table.reaching import Link
from adinsights_orchestration.audit_log.table.statements import Shape, Statement, held_condition, midnight
from adinsights_orchestration.audit_log.windows import Hold, Policy, Why

_HELD_WHOLE = (Why.LEGAL_HOLD, Why.RESTORED)
# Of a tenant that nobody knows a role that is bound to tenants sees no row, so that none of its rows can be missed.
_MUST_STAY = (Why.WINDOW, *_HELD_WHOLE)
_LIFETIME = timedelta(days=36_500)
LATE_AFTER = timedelta(days=2)  # beyond its window, before a row that is still there is a fault


@dataclass(frozen=True, slots=True)
class Census:
    """How many rows of every tenant's day a table holds, up to a day.

    Attributes:
        rows: All of them.
        undated: Rows without a time, or with one before the year 1 (`-infinity` among them), which no day stands for.
        held: Those of `rows` that a hold on a resource keeps, where there are any.
    """

    rows: Mapping[At, int]
    undated: int = 0
    held: Mapping[At, int] = field(default_factory=dict)

    @property
    def oldest(self) -> date | None:
        """The oldest day of which there are rows."""
        return min((day for _, day in self.rows), default=None)

    def per_day(self) -> dict[date, int]:
        """Rows of every day from the oldest to the newest; a day without any has none.

        Where a stray row, of the year 1 or 9999, makes that more than a lifetime, only days with rows are named.
        """
        counted = Counter[date]()
        for (_, day), rows in self.rows.items():
            counted[day] += rows
        if not counted:
            return {}
        oldest, newest = min(counted), max(counted)
        return {day: counted[day] for day in (span(oldest, newest) if newest - oldest < _LIFETIME else sorted(counted))}


@dataclass(frozen=True, slots=True)
class Ages:
    """What a census says of a table.

    Attributes:
        overdue: Rows that are older than their window and two days, and that nothing holds.
        held: Rows past their window that a hold keeps.
        unknown: Rows older than a year of tenants that the registry does not know, by tenant.
        vanished: Rows that were archived and left the table before their time, by tenant's day; nobody has answered
            for them.
        counted: Those of `vanished` of which only this census knows so far: how many should be there, and are.
        departed: Such rows of tenants that have left the backend with all of their rows, as off-boarding wants it.
        gone: Rows that were archived, are past their time and not in the table, by tenant's day: by age alone, which
            does not look at the ledger, or by whoever's hand.
        late: Rows that came after their day was archived, and are not archived yet, by tenant's day.
        awaited: Rows that a restore was to bring and that are not there: it died, failed or is at work.
        remembered: Tenants' days of which the ledger remembers rows, but for those that a restore did not bring.
    """

    overdue: dict[At, int] = field(default_factory=dict)
    held: dict[At, int] = field(default_factory=dict)
    unknown: dict[UUID, int] = field(default_factory=dict)
    vanished: dict[At, int] = field(default_factory=dict)
    counted: dict[At, tuple[int, int]] = field(default_factory=dict)
    departed: dict[At, int] = field(default_factory=dict)
    gone: dict[At, int] = field(default_factory=dict)
    late: dict[At, int] = field(default_factory=dict)
    awaited: dict[At, int] = field(default_factory=dict)
    remembered: Collection[At] = ()


def take_census(
    connection: Link,
    shape: Shape,
    access: Access,
    tenants: Sequence[UUID],
    before: date,
    holds: Sequence[Hold] = (),
) -> Census:
    """Counts the rows of every tenant's day before a day; of these tenants only where the role sees no others."""
    counted: dict[At, int] = {}
    held: dict[At, int] = {}
    undated = 0
    statement = _statement(shape, holds, before)
    for group in access.groups(tenants or [NOBODY]) if access.per_tenant else [tenants]:
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute("set local timezone = 'UTC'")
            access.stand_in(cursor, group)
            cursor.execute(statement.text, statement.parameters)
            for whose, day, rows, kept in cursor.fetchall():
                if day is None:
                    undated += rows
                    continue
                at = whose if whose is not None else NOBODY, day
                counted[at] = rows
                if kept:
                    held[at] = kept
    return Census(counted, undated, held)


def judge_ages(
    census: Census,
    policy: Policy,
    in_table: Mapping[At, int],
    archived: Collection[date] = (),
    remembered: Mapping[At, Sequence[Vanished]] | None = None,
) -> Ages:
    """What is too old, what is held, whose nobody knows, what vanished, and what came late.

    Args:
        census: Of the table.
        policy: Windows and holds.
        in_table: How many rows of every archived chunk should be there (`chunks.rows_in_table`).
        archived: The days that are archived (`chunks.archived_days`).
        remembered: Rows that are known to have vanished (`vanishing.unanswered`).
    """
    ages = Ages(late=late_rows(census, in_table, archived))
    late = replace(policy, now=policy.now - LATE_AFTER)
    for (tenant, day), rows in census.rows.items():
        why = policy.judge(tenant, day)
        if why is Why.UNKNOWN_TENANT and day < policy.latest_cutoff:
            ages.unknown[tenant] = ages.unknown.get(tenant, 0) + rows
            continue
        held = rows if why in _HELD_WHOLE else census.held.get((tenant, day), 0)
        if held and _past(policy, tenant, day):
            ages.held[tenant, day] = held
        if rows > held and why is Why.DUE and late.judge(tenant, day) is Why.DUE:
            ages.overdue[tenant, day] = rows - held
    _judge_missing(ages, census, policy, in_table)
    _judge_remembered(ages, census, policy, remembered or {})
    return ages


def _judge_missing(ages: Ages, census: Census, policy: Policy, in_table: Mapping[At, int]) -> None:
    present = {tenant for tenant, _ in census.rows}
    for chunk, expected in in_table.items():
        there = census.rows.get(chunk, 0)
        if there >= expected:
            continue
        why = policy.judge(*chunk)
        if chunk[0] in policy.departed and chunk[0] not in present:
            ages.departed[chunk] = expected
        elif why in _MUST_STAY:
            ages.vanished[chunk] = expected - there
            ages.counted[chunk] = expected, there
        elif why is Why.DUE and not there:
            ages.gone[chunk] = expected


def _judge_remembered(ages: Ages, census: Census, policy: Policy, remembered: Mapping[At, Sequence[Vanished]]) -> None:
    """By what held when it was noticed: that the day's time is over since is no answer."""
    present = {tenant for tenant, _ in census.rows}
    policies: dict[date, Policy] = {}
    for chunk, each in remembered.items():
        if chunk[0] in policy.departed and chunk[0] not in present:
            ages.departed[chunk] = ages.departed.get(chunk, 0) + sum(one.rows for one in each)
            continue
        for one in each:
            day = one.noticed_at.date()
            if day not in policies:  # to make one goes over every tenant
                policies[day] = replace(policy, now=one.noticed_at)
            if policies[day].judge(*chunk) in _MUST_STAY:
                ages.vanished[chunk] = ages.vanished.get(chunk, 0) + one.rows


def late_rows(census: Census, in_table: Mapping[At, int], archived: Collection[date]) -> dict[At, int]:
    """How many rows of archived days the table holds beyond those that are archived of them, by tenant's day.

    They came after their day had been archived for good: delivered late, or restored by hand. A tenant that had no
    row of that day has no chunk of it, so that no comparison of chunks would ever meet them.

    Args:
        census: Of the table.
        in_table: As for `judge_ages`.
        archived: As there; other days are the archive's own next work.
    """
    beyond = {(whose, day): rows - in_table.get((whose, day), 0) for (whose, day), rows in census.rows.items()}
    return {(whose, day): rows for (whose, day), rows in beyond.items() if rows > 0 and day in archived}


def _past(policy: Policy, tenant: UUID, day: date) -> bool:
    cutoff = policy.cutoff(tenant)
    return cutoff is not None and day < cutoff


def _statement(shape: Shape, holds: Sequence[Hold], before: date) -> Statement:
    """Rows by tenant and day; without a day where Postgres knows one that Python does not, and could not read."""
    parameters: dict[str, Any] = {"before": midnight(before)}
    only = sql.SQL(" and ({})").format(shape.only) if shape.only is not None else sql.SQL("")
    held = held_condition(shape, holds, parameters)
    text = sql.SQL(
        "select {tenant}, case when {time} >= '0001-01-01' then {time}::date end, count(*), {held} from {table} t"
        " where ({time} < %(before)s or {time} is null){only} group by 1, 2"
    ).format(
        tenant=sql.Identifier("t", shape.tenant) if shape.tenant else sql.SQL("null::uuid"),
        time=sql.Identifier("t", shape.time),
        held=sql.SQL("count(*) filter (where {})").format(held) if held is not None else sql.SQL("0"),
        table=shape.name,
        only=only,
    )
    return Statement(text, parameters)
