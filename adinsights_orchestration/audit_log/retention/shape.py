"""A declared table as retention's statements want it.

Belongs here: from a declaration and the columns that were archived to the fingerprint of a row. Does not belong here:
the statements (`table.statements`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from psycopg import sql

from adinsights_orchestration.audit_log import digest
from adinsights_orchestration.audit_log.source import Column, Source
from adinsights_orchestration.audit_log.table.catalog import columns_of
from adinsights_orchestration.audit_log.table.reaching import Link
from adinsights_orchestration.audit_log.table.statements import Shape


def shape_of(source: Source, columns: Sequence[Column], *, fast: bool, later: Collection[str] = ()) -> Shape:
    """The table as the statements want it.

    Args:
        source: Its declaration.
        columns: Those that were archived; none where content does not matter.
        fast: By the server's own digest, and not the portable one.
        later: Columns that came after that; a row with a value of its own in one of them is not what was archived.
    """
    return Shape(
        name=sql.Identifier(*source.schema_and_table),
        time=source.time,
        tenant=source.tenant,
        digest=_fingerprint(source, columns, later, fast=fast),
        resource_type=source.resource_type,
        resource_id=source.resource_id,
        only=sql.SQL(source.only) if source.only else None,
    )


def names_of(connection: Link, source: Source) -> frozenset[str]:
    """The columns that the table has now."""
    with connection.cursor() as cursor:
        return frozenset(column.name for column in columns_of(cursor, source))


def lacking(columns: Sequence[Column], present: Collection[str]) -> tuple[str, ...]:
    """Of the columns that were archived, those that the table has not any more."""
    return tuple(column.name for column in columns if column.name not in present)


def beyond(columns: Sequence[Column], present: Collection[str]) -> tuple[str, ...]:
    """Of the columns that the table has now, those that were not archived."""
    archived = {column.name for column in columns}
    return tuple(sorted(name for name in present if name not in archived))


def _fingerprint(source: Source, columns: Sequence[Column], later: Collection[str], *, fast: bool) -> sql.Composable:
    if not columns:
        return sql.SQL("0")
    archived = digest.fast(columns) if fast else digest.portable(columns)
    if not later:
        return archived
    changed = sql.SQL(" or ").join(_has_value(source, name) for name in later)
    return sql.SQL("{}::numeric + case when {} then 1 else 0 end").format(archived, changed)


def _has_value(source: Source, name: str) -> sql.Composable:
    """Whether `t` has another value there than rows that were written before the column was added.

    Postgres keeps what those read (null, or the constant that the column was added with) until the table is rewritten;
    after that the constant is taken for a value, and the days are archived anew with it.
    """
    return sql.SQL(
        "{column}::text is distinct from (select (attmissingval::text::text[])[1] from pg_attribute"
        " where attrelid = {table}::regclass and attname = {name})"
    ).format(column=sql.Identifier("t", name), table=sql.Literal(source.table), name=sql.Literal(name))
