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


def shape_of(source: Source, columns: Sequence[Column], *, fast: bool) -> Shape:
    """The table as the statements want it."""
    return Shape(
        name=sql.Identifier(*source.schema_and_table),
        time=source.time,
        tenant=source.tenant,
        digest=_fingerprint(columns, fast=fast),
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


def _fingerprint(columns: Sequence[Column], *, fast: bool) -> sql.Composable:
    if not columns:
        return sql.SQL("0")
    return digest.fast(columns) if fast else digest.portable(columns)
