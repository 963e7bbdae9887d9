"""The SQL by which rows of a declared table are surveyed and deleted.

Belongs here: statements, as functions of a declaration and of which tenants' days are meant. Does not belong here:
transactions, timeouts and what a result means (`deletion`). Every statement names its tenants and its days, so that it
reaches nothing else whoever runs it; sessions stand in UTC, so that `::date` is the UTC day.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID

from psycopg import sql

from adinsights_orchestration.audit_log.windows import Hold


@dataclass(frozen=True, slots=True)
class Shape:
    """What the statements must know of a table.

    Attributes:
        name: With its schema, where it has one.
        time: The column that tells a row's age.
        tenant: The column that tells whose it is; None where rows belong to nobody.
        digest: The SQL of a row's fingerprint, a bigint or numeric, of the row `t`.
        resource_type: The columns that a hold on a resource reads; None where the table has none.
        resource_id: The same.
        only: A condition on `t` that a row must meet to go at all; rows that do not are kept for ever.
    """

    name: sql.Identifier
    time: str
    tenant: str | None
    digest: sql.Composable
    resource_type: str | None = None
    resource_id: str | None = None
    only: sql.Composable | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """The days from `first` up to, without, `end` of these tenants; of everybody in a table without tenants."""

    tenants: tuple[UUID, ...]
    first: date
    end: date


@dataclass(frozen=True, slots=True)
class Scope:
    """What one transaction may touch.

    Attributes:
        runs: Whose rows of which days.
        pages: Only rows that lie in these pages of the table, the second one excluded.
        but: Days to leave out of the runs.
        holds: Holds on single resources, whose rows stay.
    """

    runs: tuple[Run, ...]
    pages: tuple[int, int] | None = None
    but: tuple[date, ...] = ()
    holds: tuple[Hold, ...] = ()

    @property
    def tenants(self) -> list[UUID]:
        """Everybody whose rows are meant."""
        return sorted({tenant for run in self.runs for tenant in run.tenants})


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL with its parameters."""

    text: sql.Composed
    parameters: dict[str, Any]


def survey(shape: Shape, scope: Scope) -> Statement:
    """Day, rows, content and first page of what lies in the scope; held rows included, and counted apart.

    The fingerprint is computed below the grouping, so that a plan that sorts never carries whole rows.
    """
    where, parameters = _where(shape, scope, held=None)
    held = held_condition(shape, scope.holds, parameters)
    text = sql.SQL(
        "select day, count(*), coalesce(sum(digest), 0), (min(place)::text::point)[0]::bigint,"
        " count(*) filter (where held), coalesce(sum(digest) filter (where held), 0) from ("
        "select {time}::date as day, {digest} as digest, t.ctid as place, {held} as held from {table} t where {where}"
        " offset 0) as found group by day"
    ).format(
        time=_column(shape.time),
        digest=shape.digest,
        held=held or sql.SQL("false"),
        table=shape.name,
        where=where,
    )
    return Statement(text, parameters)


def delete(shape: Shape, scope: Scope) -> Statement:
    """Deletes what lies in the scope and no hold keeps."""
    where, parameters = _where(shape, scope, held=False)
    return Statement(sql.SQL("delete from {} t where {}").format(shape.name, where), parameters)


def delete_counting(shape: Shape, scope: Scope, most: int) -> Statement:
    """The same of so many rows at most, and returns how many of each tenant and month went.

    They are found first and deleted by their address, in one snapshot; the conditions are said twice, so that not even
    an address that means another row elsewhere (a partition's) could reach one that must stay.
    """
    where, parameters = _where(shape, scope, held=False)
    whose = _column(shape.tenant) if shape.tenant else sql.SQL("null::uuid")
    text = sql.SQL(
        "with gone as (delete from {table} t where t.ctid = any(array(select t.ctid from {table} t where {where}"
        " limit %(most)s)) and {where} returning {whose} as whose, date_trunc('month', {time}) as month)"
        " select whose, month::date, count(*) from gone group by whose, month"
    ).format(table=shape.name, where=where, whose=whose, time=_column(shape.time))
    return Statement(text, {**parameters, "most": most})


def would_delete(shape: Shape, scope: Scope) -> Statement:
    """What `delete_counting` would return, without deleting."""
    where, parameters = _where(shape, scope, held=False)
    whose = _column(shape.tenant) if shape.tenant else sql.SQL("null::uuid")
    text = sql.SQL("select {}, date_trunc('month', {})::date, count(*) from {} t where {} group by 1, 2").format(
        whose, _column(shape.time), shape.name, where
    )
    return Statement(text, parameters)


def midnight(day: date) -> datetime:
    """The first moment of a UTC day."""
    return datetime.combine(day, time(), UTC)


def runs_of_days(days: Iterable[tuple[date, frozenset[UUID]]]) -> tuple[Run, ...]:
    """Joins neighbouring days that mean the same tenants."""
    runs: list[tuple[frozenset[UUID], date, date]] = []
    for day, tenants in sorted(days, key=lambda each: each[0]):
        if runs and runs[-1][0] == tenants and runs[-1][2] == day:
            runs[-1] = (tenants, runs[-1][1], day + timedelta(days=1))
        else:
            runs.append((tenants, day, day + timedelta(days=1)))
    return tuple(Run(tuple(sorted(tenants)), first, end) for tenants, first, end in runs)


def _where(shape: Shape, scope: Scope, *, held: bool | None) -> tuple[sql.Composable, dict[str, Any]]:
    parameters: dict[str, Any] = {}
    conditions: list[sql.Composable] = []
    if scope.pages is not None:
        conditions.append(sql.SQL("t.ctid >= %(page)s::tid and t.ctid < %(page_end)s::tid"))
        parameters |= {"page": f"({scope.pages[0]},0)", "page_end": f"({scope.pages[1]},0)"}
    runs = [_run(shape, number, run, parameters) for number, run in enumerate(scope.runs)]
    conditions.append(sql.SQL("({})").format(sql.SQL(" or ").join(runs)) if runs else sql.SQL("false"))
    if scope.but:
        conditions.append(sql.SQL("not ({}::date = any(%(but)s))").format(_column(shape.time)))
        parameters["but"] = list(scope.but)
    if shape.only is not None:
        conditions.append(sql.SQL("({})").format(shape.only))
    if held is False and (condition := held_condition(shape, scope.holds, parameters)) is not None:
        conditions.append(sql.SQL("not {}").format(condition))
    return sql.SQL(" and ").join(conditions), parameters


def _run(shape: Shape, number: int, run: Run, parameters: dict[str, Any]) -> sql.Composable:
    names = {"tenants": f"tenants_{number}", "first": f"first_{number}", "end": f"end_{number}"}
    parameters |= {names["first"]: midnight(run.first), names["end"]: midnight(run.end)}
    condition: sql.Composable = sql.SQL("{time} >= {first} and {time} < {end}").format(
        time=_column(shape.time), first=sql.Placeholder(names["first"]), end=sql.Placeholder(names["end"])
    )
    if shape.tenant is not None:
        parameters[names["tenants"]] = list(run.tenants)
        condition = sql.SQL("{} = any({}) and {}").format(
            _column(shape.tenant), sql.Placeholder(names["tenants"]), condition
        )
    return sql.SQL("({})").format(condition)


def held_condition(shape: Shape, holds: Sequence[Hold], parameters: dict[str, Any]) -> sql.Composable | None:
    """The condition under which a hold on a resource keeps a row; None where there is no such hold."""
    if not holds:
        return None
    names = ("tenant_id", "resource_type", "resource_id", "first_day", "last_day")
    parameters |= {f"held_{name}": [getattr(hold, name) for hold in holds] for name in names}
    return sql.SQL(
        "exists (select from unnest(%(held_tenant_id)s::uuid[], %(held_resource_type)s::text[],"
        " %(held_resource_id)s::text[], %(held_first_day)s::date[], %(held_last_day)s::date[])"
        " as hold (tenant, type, id, first, last)"
        " where (hold.tenant is null or hold.tenant = {tenant}) and (hold.type is null or hold.type = {type})"
        " and (hold.id is null or hold.id = {id}) and (hold.first is null or hold.first <= {time}::date)"
        " and (hold.last is null or {time}::date <= hold.last))"
    ).format(
        tenant=_column(shape.tenant) if shape.tenant else sql.SQL("null::uuid"),
        type=_column(shape.resource_type) if shape.resource_type else sql.SQL("null"),
        id=_column(shape.resource_id) if shape.resource_id else sql.SQL("null"),
        time=_column(shape.time),
    )


def _column(name: str) -> sql.Composable:
    return sql.Identifier("t", name)
