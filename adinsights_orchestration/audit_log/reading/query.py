"""Reading the archive where it lies: the filters of the backend's own endpoint, or SQL.

Belongs here: choosing the objects that a question needs, and DuckDB over them. Does not belong here: printing
(`cli.audit_archive`). Only objects of the asked-for tenant and days are opened, and each one's hash is checked first;
those in a bucket are taken into a private folder for it, those in a folder stay where they are. SQL asks one view,
and reaches no other file; and since DuckDB may also write where it may read, only a query is let through.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from itertools import count
from typing import Any
from uuid import UUID

import duckdb

from adinsights_orchestration.audit_log.bookkeeping import chain
from adinsights_orchestration.audit_log.bookkeeping.manifest import newest
from adinsights_orchestration.audit_log.model import At, DataFile
from adinsights_orchestration.audit_log.reading import reader
from adinsights_orchestration.audit_log.reading.choosing import EVER, Knowing, choose, every_revision
from adinsights_orchestration.audit_log.reading.reader import ContentError
from adinsights_orchestration.audit_log.reading.scratch import private_folder
from adinsights_orchestration.audit_log.source import AUDIT_LOG, Source
from adinsights_orchestration.audit_log.store.contract import Store
from adinsights_orchestration.errors import AdinsightsError

MOST_ROWS = 100
_OBJECTS, _DAYS = "_objects", "_days"  # as no table in the archive can be named


class QueryError(AdinsightsError):
    """The question cannot be answered."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked.

    Attributes:
        tenant: Only this tenant's rows.
        action: Only rows of this action.
        resource_type: Only rows about this kind of resource.
        first: From this day (UTC) on.
        last: To this day, included.
        limit: At most so many rows, the newest; 0: all of them; None: `MOST_ROWS`. SQL sets its own.
        sql: A SELECT over the view (`view_of`) in place of the filters on rows.
        revisions: Also what earlier revisions hold, each content of a row once, with a column `in_force`.
    """

    tenant: UUID | None = None
    action: str | None = None
    resource_type: str | None = None
    first: date | None = None
    last: date | None = None
    limit: int | None = None
    sql: str | None = None
    revisions: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What the archive answers.

    Attributes:
        columns: Names, each once: a second `id` of some SQL is `id_2`.
        rows: Their values, as Python has them.
        objects: How many objects they are of.
        total: How many rows there are, those that the limit leaves out included.
        unreadable: Keys of objects of earlier revisions that are damaged or missing, which nothing in force needs.
    """

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    objects: int
    total: int
    unreadable: tuple[str, ...] = ()


def ask(
    store: Store,
    source: Source,
    question: Question,
    *,
    at_once: int = 8,
    knowing: Knowing | None = None,
) -> Answer:
    """Answers from the archive alone.

    Args:
        store: The archive.
        source: The table.
        question: What is asked.
        at_once: Objects that are fetched at once.
        knowing: The ledger's `about`, which saves reading the whole chain; None: the store alone.

    Raises:
        QueryError: The SQL is wrong, the table has no column for a filter, or nothing is archived of what is asked
            for.
        ContentError: An object that it needs is missing or changed.
    """
    _require_columns(source, question)
    if question.sql is not None and (question.action or question.resource_type or question.limit is not None):
        raise QueryError(
            "SQL is asked in place of filters on rows, and a limit would be forgotten",
            next_step="Write action, resource type and limit into the SQL; tenant and days may be given besides.",
        )
    chosen = _chosen(store, source, question, knowing)
    unreadable: list[str] = []
    while True:
        readable = {file: days for file, days in chosen.items() if file.key not in unreadable}
        try:
            return replace(_answer(store, source, question, readable, at_once), unreadable=tuple(unreadable))
        except ContentError as error:
            # Somebody compacted or expired meanwhile: what stands in place of what is gone by now answers.
            before, chosen = chosen, _chosen(store, source, question, knowing)
            if chosen != before:
                continue
            # What was mended stays where it is, damaged, and is named for ever.
            if not any(file.key == error.place and not any(days.values()) for file, days in readable.items()):
                raise
            unreadable.append(error.place)


def view_of(source: Source) -> str:
    """What SQL calls the rows: the audit log by what everybody calls it, another table by its name in the archive."""
    return "audit_log" if source is AUDIT_LOG else source.name


def _require_columns(source: Source, question: Question) -> None:
    filters = (
        ("tenant", question.tenant, source.tenant),
        ("action", question.action, source.action),
        ("resource type", question.resource_type, source.resource_type),
    )
    if refused := [name for name, value, column in filters if value is not None and column is None]:
        raise QueryError(
            f"rows of {source.name} cannot be chosen by {' and '.join(refused)}: it has no such column",
            next_step=f"Leave that out, or write --sql over the view {view_of(source)}.",
        )


def _answer(
    store: Store, source: Source, question: Question, chosen: Mapping[DataFile, Mapping[date, bool]], at_once: int
) -> Answer:
    files = list(chosen)
    if not files:
        raise QueryError("nothing is archived of that", next_step="`adinsights audit status` shows which days are.")
    with (
        private_folder() as spill,
        reader.fetched(store, files, at_once) as paths,
        reader.database(spill) as connection,
    ):
        names = [str(path) for path in paths.values()]
        try:
            connection.execute("set TimeZone = 'UTC'")
            connection.execute(f"set allowed_paths = [{', '.join(map(_quoted, names))}]")
            connection.execute("set enable_external_access = false")
            connection.execute("set lock_configuration = true")
            days = [(str(paths[file.key]), *each) for file, its in chosen.items() for each in its.items()]
            if question.revisions or any(chain.is_of_month(file.key) for file in files):
                _make_view(connection, source, names, days, revisions=question.revisions)
            else:
                connection.read_parquet(names, union_by_name=True, hive_partitioning=False).create_view(view_of(source))
            if question.sql is not None:
                _require_reads_only(connection, question.sql)
                columns, rows = _found(connection, question.sql)
                return Answer(columns, rows, len(files), len(rows))
            columns, rows, total = _filtered(connection, source, question)
            return Answer(columns, rows, len(files), total)
        except duckdb.Error as error:
            raise QueryError(
                f"DuckDB refuses this: {str(error).splitlines()[0]}",
                next_step="Correct the SQL, which may read the archive's view and nothing else, and ask again.",
            ) from None


def _quoted(name: str) -> str:
    return "'" + name.replace("'", "''") + "'"


def _chosen(
    store: Store, source: Source, question: Question, knowing: Knowing | None
) -> dict[DataFile, dict[date, bool]]:
    """The objects that are needed, each with the days that it is asked for, and whether it is in force of them."""
    first, last = question.first or EVER[0], question.last or EVER[1]

    def wanted(at: At) -> bool:
        tenant, day = at
        return question.tenant in (None, tenant) and first <= day <= last

    if question.revisions:
        return every_revision(store, source, first, last, wanted)
    found: dict[DataFile, dict[date, bool]] = {}
    known = knowing(first, last) if knowing is not None else None
    in_force = choose(store, source, known, partial(newest, wanted=wanted))
    for (_, day), (chunk, manifest) in in_force.items():
        for file in manifest.files:
            if file.key in chunk.files:
                found.setdefault(file, {})[day] = True
    return found


def _make_view(
    connection: duckdb.DuckDBPyConnection,
    source: Source,
    names: list[str],
    days: list[tuple[str, date, bool]],
    *,
    revisions: bool,
) -> None:
    """An object of a month holds other days than those that are asked for, and some that were archived anew since."""
    connection.execute(  # SQL, since DuckDB's own call takes no name for the column
        f"create view {_OBJECTS} as from read_parquet([{', '.join(map(_quoted, names))}], union_by_name = true,"
        f" hive_partitioning = false, filename = '{reader.OBJECT}')"
    )
    connection.execute(f"create table {_DAYS} (name varchar, day date, in_force boolean)")
    columns = [list(column) for column in zip(*days, strict=True)]  # row by row, a year takes a minute
    connection.execute(f"insert into {_DAYS} select unnest(?), unnest(?), unnest(?)", columns)
    told, join, each_once = "", "semi join", ""
    if revisions:
        told, join, each_once = ", bool_or(d.in_force) as in_force", "join", "group by all"
    connection.execute(
        f'create view "{view_of(source)}" as select o.* exclude ({reader.OBJECT}){told} from {_OBJECTS} o'  # noqa: S608  (names of ours)
        f' {join} {_DAYS} d on o.{reader.OBJECT} = d.name and o."{source.time}"::date = d.day {each_once}'
    )


def _require_reads_only(connection: duckdb.DuckDBPyConnection, text: str) -> None:
    """Lets one query through; `copy`, in any place of it, would write over the very objects that it may read.

    A statement of type SELECT may begin with `with x as (copy ...)`: inside `query`, which takes one SELECT and which
    is bound here and not run, DuckDB itself refuses whatever changes something.
    """
    connection.execute(f"explain select * from query({_quoted(text)})")  # noqa: S608  (quoted)


def _filtered(
    connection: duckdb.DuckDBPyConnection, source: Source, question: Question
) -> tuple[tuple[str, ...], list[tuple[Any, ...]], int]:
    """Columns, the newest rows that pass the filters, and how many do."""
    wanted: Sequence[tuple[str, object | None]] = (
        (f'"{source.tenant}" = ?', question.tenant),
        (f'"{source.action}" = ?', question.action),
        (f'"{source.resource_type}" = ?', question.resource_type),
        (f'"{source.time}"::date >= ?', question.first),
        (f'"{source.time}"::date <= ?', question.last),
    )
    conditions = [condition for condition, value in wanted if value is not None] or ["true"]
    parameters = [value for _, value in wanted if value is not None]
    those = f'from "{view_of(source)}" where {" and ".join(conditions)}'
    newest_first = f'select * {those} order by "{source.time}" desc'  # values are parameters
    most = MOST_ROWS if question.limit is None else question.limit
    if not most:
        columns, rows = _found(connection, newest_first, parameters)
        return columns, rows, len(rows)
    columns, rows = _found(connection, f"{newest_first} limit ?", [*parameters, most])
    if len(rows) < most:
        return columns, rows, len(rows)
    _, ((total,),) = _found(connection, f"select count(*) {those}", parameters)
    return columns, rows, int(total)


def _found(
    connection: duckdb.DuckDBPyConnection, query: str, parameters: Sequence[object] = ()
) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    result = connection.execute(query, parameters)
    return _distinct([str(each[0]) for each in result.description or ()]), result.fetchall()


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """The names, each once: of two columns of one name, one would hide the other."""
    taken, found = set(names), list[str]()
    for name in names:
        free = name
        if name in found:
            free = next(each for number in count(2) if (each := f"{name}_{number}") not in taken)
            taken.add(free)
        found.append(free)
    return tuple(found)
