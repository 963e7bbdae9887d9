"""The SQL by which archived rows come back: a staging table, the insert, and the comparison.

Belongs here: statements, as functions of columns and target. Does not belong here: transactions (`writing`). The digest
of what arrived is computed by the INSERT itself, of the rows as the table has them; where some were there already, a
second statement holds what was staged against what is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from psycopg import sql

from adinsights_orchestration.audit_log import digest
from adinsights_orchestration.audit_log.restore.target import Reference, Target, type_of
from adinsights_orchestration.audit_log.source import Column, Source


def make_staging(name: str, columns: Sequence[Column]) -> sql.Composed:
    """A temporary table that is empty again after every transaction."""
    parts = (sql.SQL("{} {}").format(sql.Identifier(column.name), type_of(column)) for column in columns)
    return sql.SQL("create temporary table if not exists {} ({}) on commit delete rows").format(
        sql.Identifier(name), sql.SQL(", ").join(parts)
    )


def fill_staging(name: str, columns: Sequence[Column]) -> sql.Composed:
    """The COPY of `rows.copy_lines`."""
    return sql.SQL("copy {} ({}) from stdin").format(sql.Identifier(name), _names(columns))


def insert(source: Source, target: Target, staging: str, columns: Sequence[Column]) -> sql.Composed:
    """Writes what the target lacks; returns by tenant and day the rows that came and both digests of them.

    Parameters `first` and `end` bound the moments.
    """
    values = [_value(target, column) for column in columns]
    return sql.SQL(
        "with came as (insert into {target} as t ({names}) overriding system value"
        " select {values} from {staging} s {references}"
        " where s.{time} >= %(first)s and s.{time} < %(end)s"
        " on conflict ({keys}) do nothing"
        " returning {tenant} as tenant, t.{time}::date as day, {portable} as portable, {fast} as fast)"
        " select tenant, day, count(*), sum(portable), sum(fast) from came group by tenant, day"
    ).format(
        target=target.name,
        names=_names(columns),
        values=sql.SQL(", ").join(values),
        staging=sql.Identifier(staging),
        references=_joins(target, columns),
        time=sql.Identifier(source.time),
        keys=sql.SQL(", ").join(map(sql.Identifier, source.keys)),
        tenant=_tenant(source, "t"),
        portable=digest.portable(columns),
        fast=digest.fast(columns),
    )


def compare(source: Source, target: Target, staging: str, columns: Sequence[Column]) -> sql.Composed:
    """Holds staged rows of the days `days` against the target, by tenant and day.

    Columns: tenant, day; rows, portable digest; rows that are there, their archived portable and fast digests; rows of
    the range that are not there; rows that are there and differ; those of them that lost a reference on the way; those
    that we wrote ourselves and that differ for no such reason.
    """
    differs = sql.SQL("t.{key} is not null and {staged} <> {there}").format(
        key=sql.Identifier(source.keys[0]), staged=digest.fast(columns, "s"), there=digest.fast(columns)
    )
    return sql.SQL(
        "select tenant, day, count(*), sum(portable), count(*) filter (where there),"
        " coalesce(sum(portable) filter (where there), 0), coalesce(sum(fast) filter (where there), 0),"
        " count(*) filter (where meant and not there), count(*) filter (where differs),"
        " count(*) filter (where differs and ours and unlinked),"
        " count(*) filter (where differs and ours and not unlinked)"
        " from (select {tenant} as tenant, s.{time}::date as day, {portable} as portable, {fast} as fast,"
        "  t.{key} is not null as there, s.{time} >= %(first)s and s.{time} < %(end)s as meant, {differs} as differs,"
        "  t.xmin = pg_current_xact_id()::xid as ours, {unlinked} as unlinked"
        "  from {staging} s left join {target} t on {same}"
        "  where s.{time}::date = any(%(days)s)) as each group by tenant, day"
    ).format(
        tenant=_tenant(source, "s"),
        time=sql.Identifier(source.time),
        key=sql.Identifier(source.keys[0]),
        portable=digest.portable(columns, "s"),
        fast=digest.fast(columns, "s"),
        differs=differs,
        unlinked=_unlinked(target, columns),
        staging=sql.Identifier(staging),
        target=target.name,
        same=_same(source),
    )


def bounds(first: datetime, end: datetime) -> dict[str, Any]:
    """The parameters that every statement takes."""
    return {"first": first, "end": end}


def _names(columns: Sequence[Column]) -> sql.Composed:
    return sql.SQL(", ").join(sql.Identifier(column.name) for column in columns)


def _tenant(source: Source, row: str) -> sql.Composable:
    return sql.Identifier(row, source.tenant) if source.tenant else sql.SQL("null::uuid")


def _same(source: Source) -> sql.Composed:
    named = [*source.keys, *([source.tenant] if source.tenant else [])]
    return sql.SQL(" and ").join(
        sql.SQL("{} = {}").format(sql.Identifier("t", name), sql.Identifier("s", name)) for name in named
    )


def _value(target: Target, column: Column) -> sql.Composable:
    """The staged value in the target's type; of a reference what it names, if that still exists."""
    for number, reference in enumerate(target.references):
        if reference.column == column.name:
            return sql.Identifier(_alias(number), reference.key)
    staged = sql.Identifier("s", column.name)
    here = target.columns[column.name]
    return staged if here.type == column.type else sql.SQL("{}::{}").format(staged, type_of(here))


def _joins(target: Target, columns: Sequence[Column]) -> sql.Composed:
    return sql.SQL(" ").join(
        sql.SQL("left join {} {alias} on {alias}.{} = s.{}").format(
            sql.Identifier(*reference.table.split(".")),
            sql.Identifier(reference.key),
            sql.Identifier(reference.column),
            alias=sql.Identifier(_alias(number)),
        )
        for number, reference in _archived(target, columns)
    )


def _unlinked(target: Target, columns: Sequence[Column]) -> sql.Composable:
    lost = [
        sql.SQL("(s.{0} is not null and t.{0} is null)").format(sql.Identifier(reference.column))
        for _, reference in _archived(target, columns)
    ]
    return sql.SQL(" or ").join(lost) if lost else sql.SQL("false")


def _archived(target: Target, columns: Sequence[Column]) -> list[tuple[int, Reference]]:
    names = {column.name for column in columns}
    return [(number, each) for number, each in enumerate(target.references) if each.column in names]


def _alias(number: int) -> str:
    return f"reference_{number}"
