"""The table that rows are brought back into: the live one, or one of its own that is made for them.

Belongs here: which table it is, what it must look like, and making it. Does not belong here: writing rows (`writing`).
A table of its own has the live table's columns, no constraint but its key, and row level security without a policy: its
owner reads it and nobody else, whatever default privileges say. A table that we did not make is never written to.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from psycopg import sql

from adinsights_orchestration.audit_log.restore.plan import Plan
from adinsights_orchestration.audit_log.source import Column, Source
from adinsights_orchestration.audit_log.table.access import Access, Right, require_access
from adinsights_orchestration.audit_log.table.catalog import columns_of
from adinsights_orchestration.audit_log.table.reaching import Link
from adinsights_orchestration.backend.database import Cursor
from adinsights_orchestration.errors import AdinsightsError

_NAME = re.compile(r"([a-z_][a-z0-9_]{0,62}\.)?[a-z_][a-z0-9_]{0,62}")
# What `format_type` writes; it becomes part of a statement, and comes from a file.
_TYPE = re.compile(r'[A-Za-z_"][\w ".]*(\([\d, -]+\))?[\w ]*(\[\])*')
_MARK = "Audit rows that were restored from the archive; made by adinsights audit restore from"


class RestoreError(AdinsightsError):
    """The rows cannot be restored so; nothing was written."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A foreign key of one column.

    Attributes:
        column: The column that names something.
        table: Where that is.
        key: The column there that it is named by.
        constraint: What Postgres calls it in an error.
        may_be_gone: What it names may be gone by now; the row then comes back without it.
    """

    column: str
    table: str
    key: str
    constraint: str = ""
    may_be_gone: bool = True


@dataclass(frozen=True, slots=True)
class Target:
    """Where rows go.

    Attributes:
        table: Its name, with its schema where it has one.
        live: Whether it is the table that was archived.
        columns: Those that can be written to, by name.
        access: How its rows are reached.
        references: What may name something that is gone.
        demands: What must name something that is there, or the row is not taken.
        exists: Whether it is there; a dry run makes nothing.
    """

    table: str
    live: bool
    columns: dict[str, Column]
    access: Access
    references: tuple[Reference, ...] = ()
    demands: tuple[Reference, ...] = ()
    exists: bool = True

    @property
    def name(self) -> sql.Identifier:
        """Its name, quoted."""
        return sql.Identifier(*self.table.split("."))

    def require_columns(self, archived: Sequence[Column]) -> None:
        """Refuses rows that this table cannot hold as they are.

        Raises:
            RestoreError: A column is missing here, or is something else.
        """
        for column in archived:
            here = self.columns.get(column.name)
            if not _TYPE.fullmatch(column.type):
                raise _no_type(column)
            if here is None:
                raise RestoreError(
                    f"{self.table} has no column {column.name} that can be written; the archive has",
                    next_step="Restore into a table of its own: without --live, or with another --into.",
                )
            if here.kind is not column.kind:
                raise RestoreError(
                    f"{self.table}.{column.name} is {here.type}; the archive has {column.type}",
                    next_step="Restore into a table of its own with another --into, or read it by `audit query`.",
                )


def default_name(source: Source) -> str:
    """The table that rows go to unless another one is named."""
    return f"{source.table}_restored"


def require_name(source: Source, name: str) -> str:
    """Returns a name for a table of its own, or refuses it."""
    if not _NAME.fullmatch(name) or name.rsplit(".", maxsplit=1)[-1] == source.schema_and_table[-1]:
        raise RestoreError(
            f"{name!r} cannot name the table to restore into",
            place="--into",
            next_step="Use a-z, 0-9 and _, with a schema and a dot before it if you like; --live means the live table.",
        )
    return name


def live_target(connection: Link, source: Source, tenants: Sequence[UUID]) -> Target:
    """The table that was archived.

    Args:
        connection: With the role that restores.
        source: The table.
        tenants: Every tenant that is known.

    Raises:
        AuditAccessError: The role lacks a right, or would silently do something else.
    """
    with connection.transaction(), connection.cursor() as cursor:
        columns_of(cursor, source)
        columns, named = _writable(cursor, source.table), _references(cursor, source)
    with connection.transaction(force_rollback=True), connection.cursor() as cursor:
        access = require_access(cursor, source.table, tenants, (Right.SELECT, Right.INSERT), tenant=source.tenant)
    references = tuple(each for each in named if each.may_be_gone)
    demands = tuple(each for each in named if not each.may_be_gone)
    return Target(source.table, True, columns, access, references, demands)


def own_target(connection: Link, source: Source, name: str, plan: Plan, *, make: bool) -> Target:
    """A table of its own: the one that an earlier restore made, or a new one.

    Args:
        connection: With the role that restores.
        source: The table that was archived.
        name: Of the table; `require_name` has passed it.
        plan: What goes into it: a column that the archive has and the live table has lost is made as well.
        make: Make or widen it; otherwise only look.

    Raises:
        RestoreError: There is a table of this name that no restore made.
    """
    access = Access(False, "a table of its own", connection.info.server_version // 10_000)
    with connection.transaction(), connection.cursor() as cursor:
        wanted = {column.name: column for column in plan.columns} | {
            column.name: column for column in columns_of(cursor, source)
        }
        exists = _is_there(cursor, source, name)
        present = _writable(cursor, name) if exists else {}
        new = [column for column in wanted.values() if column.name not in present]
        target = Target(name, False, {**wanted, **present}, access, exists=exists)
        for column in wanted.values():
            if not _TYPE.fullmatch(column.type):
                raise _no_type(column)
        if make and not exists:
            _make(cursor, source, target)
        elif make and new:
            added = (sql.SQL("add column {}").format(_definition(column)) for column in new)
            cursor.execute(sql.SQL("alter table {} {}").format(target.name, sql.SQL(", ").join(added)))
    return target


def _make(cursor: Cursor, source: Source, target: Target) -> None:
    keys = sql.SQL(", ").join(map(sql.Identifier, source.keys))
    columns = sql.SQL(", ").join(map(_definition, target.columns.values()))
    cursor.execute(sql.SQL("create table {} ({}, primary key ({}))").format(target.name, columns, keys))
    cursor.execute(sql.SQL("alter table {} enable row level security").format(target.name))
    mark = sql.Literal(f"{_MARK} {source.name}")
    cursor.execute(sql.SQL("comment on table {} is {}").format(target.name, mark))


def _no_type(column: Column) -> RestoreError:
    return RestoreError(
        f"{column.name} has a type that cannot be written as one: {column.type!r}",
        next_step="`adinsights audit verify` says whether the manifest is as it was written; nothing was restored.",
    )


def _definition(column: Column) -> sql.Composed:
    # A default would make up what an old row never had.
    return sql.SQL("{} {}").format(sql.Identifier(column.name), type_of(column))


def type_of(column: Column) -> sql.SQL:
    """A column's type as part of a statement."""
    if not _TYPE.fullmatch(column.type):
        raise _no_type(column)
    return sql.SQL(column.type)  # no placeholder and no statement fits the pattern


def _is_there(cursor: Cursor, source: Source, name: str) -> bool:
    cursor.execute("select obj_description(c, 'pg_class') from to_regclass(%s) c where c is not null", (name,))
    row = cursor.fetchone()
    if row is not None and row[0] != f"{_MARK} {source.name}":
        raise RestoreError(
            f"{name} is a table that no restore made",
            place="--into",
            next_step="Name another one; nothing is ever written into a table that holds something else.",
        )
    return row is not None


def _writable(cursor: Cursor, table: str) -> dict[str, Column]:
    cursor.execute(
        """select attname, format_type(atttypid, atttypmod) from pg_attribute
            where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped and attgenerated = ''
            order by attnum""",
        (table,),
    )
    return {str(name): Column(str(name), str(type_)) for name, type_ in cursor.fetchall()}


def _references(cursor: Cursor, source: Source) -> tuple[Reference, ...]:
    """What the table's rows name elsewhere.

    Whatever the constraint says of a deletion: an application may empty the column itself (Django does, and its
    constraints say nothing), so a column that can be empty may have been emptied. But a row without its tenant is
    nobody's, what rows of the same table name may arrive by the very statement that would look for it, and of a table
    whose policies bind our role nobody can tell what is gone and what is hidden.
    """
    cursor.execute(
        """select a.attname, n.nspname || '.' || r.relname, f.attname, c.conname,
                  not a.attnotnull and c.confrelid <> c.conrelid and a.attname is distinct from %s
                  and not row_security_active(r.oid)
             from pg_constraint c
             join pg_attribute a on a.attrelid = c.conrelid and a.attnum = c.conkey[1]
             join pg_attribute f on f.attrelid = c.confrelid and f.attnum = c.confkey[1]
             join pg_class r on r.oid = c.confrelid join pg_namespace n on n.oid = r.relnamespace
            where c.conrelid = to_regclass(%s) and c.contype = 'f' and cardinality(c.conkey) = 1
              and c.conparentid = 0  -- else there is one more for each partition of what is named
            order by a.attname, c.conname""",
        (source.tenant, source.table),
    )
    return tuple(
        Reference(str(column), str(table), str(key), str(constraint), bool(may_be_gone))
        for column, table, key, constraint, may_be_gone in cursor.fetchall()
    )
