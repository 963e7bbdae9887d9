"""Writing archived rows into a table: one transaction for each portion, compared with the archive before it commits.

Belongs here: that transaction, what it proves, and which failures concern one tenant's day alone. Does not belong here:
the statements (`statements`), the order of portions and what is recorded (`run`). A row that is there already stays as
it is. What is wrong with one day of a portion rolls all of it back, and its days are then written one by one, so that
the others come back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol
from uuid import UUID

import psycopg
from psycopg import sql

from adinsights_orchestration.audit_log import digest
from adinsights_orchestration.audit_log.model import At, Digest
from adinsights_orchestration.audit_log.reading.reader import ContentError
from adinsights_orchestration.audit_log.restore import statements
from adinsights_orchestration.audit_log.restore.plan import Part, Wanted
from adinsights_orchestration.audit_log.restore.rows import Loaded
from adinsights_orchestration.audit_log.restore.target import RestoreError, Target
from adinsights_orchestration.audit_log.source import NOBODY, Column, Source
from adinsights_orchestration.audit_log.table.reaching import GAVE_WAY, Link
from adinsights_orchestration.backend.database import Cursor

_ATTEMPTS = 3
_STATEMENT_TIMEOUT = "10min"  # a tenant's day is never split, and one of a million rows takes a while
_IDLE_TIMEOUT = "60s"
_TEMPORARY_MEMORY = "64MB"
_AGAIN = "Nothing of this day was written; the same command tries it again."
_OF_A_ROW = ("22", "23")  # classes of errors that some row causes, and no other row suffers from
_ADVICE = {
    "23503": "Its rows name what is not there any more: restore them into a table of their own (--into).",
    "23502": "A column that was added later has no default; restore into a table of its own (--into).",
    "23505": "Other rows have what only one may have; restore into a table of its own (--into) and compare.",
    "23514": "A rule of the table, perhaps a later one, forbids its rows; restore into a table of its own (--into).",
    "42501": "Our role lacks a right; docs/audit-restore.md lists its grants.",
    "53100": "The server's disk is full; free some of it. The same command goes on where this one stopped.",
}


@dataclass(slots=True)
class Arrival:
    """What became of one tenant's day.

    Attributes:
        part: Which.
        came: Rows that were written.
        there: Rows that were there already.
        changed: Of those, rows that are not what was archived: changed since, and left as they are.
        unlinked: Rows that were written without naming, say, a user who has been deleted since.
        left: What of the archive is in the table now, by its archived digests.
        problem: Why nothing of it was written.
    """

    part: Part
    came: int = 0
    there: int = 0
    changed: int = 0
    unlinked: int = 0
    left: Digest = field(default_factory=Digest)
    problem: str = ""

    @property
    def at(self) -> At:
        """Whose day."""
        return self.part.chunk.tenant, self.part.chunk.day


class Ledger(Protocol):
    """Where it is written down what a transaction does."""

    def intend(self, connection: int, arrivals: Sequence[Arrival]) -> None:
        """These are about to be committed by this connection; what it raises prevents that."""

    def done(self, connection: int) -> None:
        """They are."""


class _DiffersError(Exception):
    """What Postgres has read is not what was sealed; leaves the transaction by rolling it back."""


@dataclass(slots=True)
class Writing:
    """Writes portions into one table, over one connection.

    Attributes:
        connection: With the role that restores.
        source: The table that was archived.
        target: The table that is written to.
        wanted: Which moments are meant.
        lock_timeout_seconds: How long to wait for somebody else's lock.
        ledger: Told of every transaction before it commits, and after.
    """

    connection: Link
    source: Source
    target: Target
    wanted: Wanted
    lock_timeout_seconds: float
    ledger: Ledger
    transactions: int = 0
    _staging: dict[tuple[Column, ...], str] = field(default_factory=dict)

    def write(self, portion: Sequence[Loaded]) -> list[Arrival]:
        """Writes a portion; a day that cannot be written is told by its arrival's problem.

        Raises:
            RestoreError: The database does not serve us, or refuses for a reason that every row would meet.
        """
        sound = [each for each in portion if not each.problem]
        arrivals = [Arrival(each.part, problem=each.problem) for each in portion if each.problem]
        if not sound:
            return arrivals
        try:
            return arrivals + self._transaction(sound)
        except (psycopg.Error, _DiffersError) as error:
            self._require_service(error)
            if len(sound) == 1:
                return [*arrivals, self._once_more(sound[0], error)]
        return arrivals + [self._alone(each) for each in sound]

    def _alone(self, one: Loaded) -> Arrival:
        try:
            return self._transaction([one])[0]
        except (psycopg.Error, _DiffersError) as error:
            self._require_service(error)
            return self._once_more(one, error)

    def _once_more(self, one: Loaded, error: psycopg.Error | _DiffersError) -> Arrival:
        for _ in range(_ATTEMPTS - 1):
            # A user may have been deleted between reading who exists and naming one: that is seen the next time.
            if not isinstance(error, (*GAVE_WAY, psycopg.errors.ForeignKeyViolation)):
                break
            try:
                return self._transaction([one])[0]
            except (psycopg.Error, _DiffersError) as again:
                self._require_service(again)
                error = again
        return Arrival(one.part, problem=_told(one, error, self._gone(error)))

    def _gone(self, error: psycopg.Error | _DiffersError) -> str:
        """What the database does not have any more, by the constraint that says so; empty where none of ours does."""
        if not isinstance(error, psycopg.errors.ForeignKeyViolation):
            return ""
        for each in self.target.demands:
            if each.constraint == error.diag.constraint_name:
                whose = each.column == self.source.tenant
                return "this tenant" if whose else f"what {each.column} names in {each.table}"
        return ""

    def _require_service(self, error: psycopg.Error | _DiffersError) -> None:
        """Refuses to go on after what no other portion would survive either."""
        if isinstance(error, (_DiffersError, *GAVE_WAY)):
            return
        state = error.sqlstate or ""
        if self.connection.closed or state[:2] not in _OF_A_ROW:
            raise RestoreError(
                f"the database does not take the rows ({state or 'no answer'})",
                next_step=_ADVICE.get(state, "Check that it is up; the same command goes on where this one stopped."),
            ) from None

    def _transaction(self, portion: Sequence[Loaded]) -> list[Arrival]:
        self._make_staging(portion)
        arrivals = {arrival.at: arrival for arrival in (Arrival(each.part) for each in portion)}
        with self.connection.transaction(), self.connection.cursor() as cursor:
            self._prepare(cursor, sorted({tenant for tenant, _ in arrivals}))
            for columns in self._schemas(portion):
                self._fill(cursor, columns, portion)
                self._insert(cursor, columns, arrivals)
            complete = {at for at, arrival in arrivals.items() if _is_complete(arrival)}
            if incomplete := {at: arrival for at, arrival in arrivals.items() if at not in complete}:
                self._compare(cursor, self._schemas(portion), incomplete)
            cursor.execute("set constraints all immediate")  # a foreign key that is checked at COMMIT fails here
            self.ledger.intend(id(self), list(arrivals.values()))
        self.ledger.done(id(self))
        self.transactions += 1
        return list(arrivals.values())

    def _schemas(self, portion: Sequence[Loaded]) -> list[tuple[Column, ...]]:
        return list(dict.fromkeys(columns for each in portion for columns in each.lines))

    def _make_staging(self, portion: Sequence[Loaded]) -> None:
        for columns in self._schemas(portion):
            if columns in self._staging:
                continue
            if not self._staging:
                self.connection.execute(f"set temp_buffers = '{_TEMPORARY_MEMORY}'".encode())
                self.connection.execute("set client_min_messages = warning")
            self.target.require_columns(columns)
            name = f"adinsights_restoring_{len(self._staging)}"
            self.connection.execute(statements.make_staging(name, columns))
            self._staging[columns] = name

    def _prepare(self, cursor: Cursor, tenants: Sequence[UUID]) -> None:
        cursor.execute(
            sql.SQL(
                """select set_config('lock_timeout', %s, true), set_config('statement_timeout', %s, true), {},
                          set_config('idle_in_transaction_session_timeout', %s, true)"""
            ).format(digest.spelling(local=True)),
            (f"{max(1, round(self.lock_timeout_seconds * 1000))}ms", _STATEMENT_TIMEOUT, _IDLE_TIMEOUT),
        )
        self.target.access.stand_in(cursor, tenants)

    def _fill(self, cursor: Cursor, columns: tuple[Column, ...], portion: Sequence[Loaded]) -> None:
        try:
            with cursor.copy(statements.fill_staging(self._staging[columns], columns)) as copy:
                for each in portion:
                    for lines in chain.from_iterable(each.lines.get(columns, ())):
                        copy.write(lines)
        except ContentError as error:
            raise _DiffersError(str(error)) from None

    def _insert(self, cursor: Cursor, columns: tuple[Column, ...], arrivals: dict[At, Arrival]) -> None:
        statement = statements.insert(self.source, self.target, self._staging[columns], columns)
        cursor.execute(statement, statements.bounds(self.wanted.first, self.wanted.end))
        for tenant, day, rows, portable, fast in cursor.fetchall():
            arrival = arrivals.get((tenant or NOBODY, day))
            if arrival is None:
                raise _DiffersError("an object holds rows of another tenant or day than was sealed")
            arrival.came += rows
            arrival.left += Digest(rows, int(portable), int(fast))

    def _compare(self, cursor: Cursor, schemas: Sequence[tuple[Column, ...]], arrivals: dict[At, Arrival]) -> None:
        staged = dict.fromkeys(arrivals, Digest())
        for arrival in arrivals.values():
            arrival.left = Digest()
        days = sorted({day for _, day in arrivals})
        for columns in schemas:
            statement = statements.compare(self.source, self.target, self._staging[columns], columns)
            cursor.execute(statement, {**statements.bounds(self.wanted.first, self.wanted.end), "days": days})
            for tenant, day, rows, portable, *there in cursor.fetchall():
                at = (tenant or NOBODY, day)
                if at in arrivals:
                    staged[at] += Digest(rows, int(portable))
                    _note(arrivals[at], *map(int, there))
        for at, arrival in arrivals.items():
            chunk = arrival.part.chunk
            if (staged[at].rows, staged[at].portable) != (chunk.rows, chunk.portable):
                raise _DiffersError(f"{staged[at].rows} of {chunk.rows} rows arrive, or their digest is another")
            arrival.there = arrival.left.rows - arrival.came


def _is_complete(arrival: Arrival) -> bool:
    """Whether every archived row was written just now, and stands in the table as it stood there once."""
    chunk = arrival.part.chunk
    return (arrival.left.rows, arrival.left.portable) == (chunk.rows, chunk.portable)


def _note(
    arrival: Arrival, there: int, portable: int, fast: int, missing: int, changed: int, unlinked: int, altered: int
) -> None:
    if missing:
        raise _DiffersError(f"{missing} rows are not in the table: other rows have their keys")
    if altered:
        raise _DiffersError(f"the table alters {altered} rows as they are written (a trigger, or a narrower type)")
    arrival.left += Digest(there, portable, fast)
    arrival.unlinked += unlinked
    arrival.changed += changed - unlinked


def _told(one: Loaded, error: psycopg.Error | _DiffersError, gone: str = "") -> str:
    """Without Postgres's own words, which may quote a row; what it calls a constraint or a column is no row's."""
    chunk = one.part.chunk
    where = f"tenant {chunk.tenant} on {chunk.day}"
    if isinstance(error, _DiffersError):
        files = ", ".join(chunk.files[:3])
        return f"{where}: {error}. Nothing of it was written; docs/audit-restore.md says what to do ({files})"
    if isinstance(error, GAVE_WAY):
        return f"{where}: somebody holds a lock ({type(error).__name__}). {_AGAIN}"
    state = error.sqlstate or ""
    what = ", ".join(filter(None, (state, error.diag.constraint_name or error.diag.column_name)))
    advice = (
        f"The database does not have {gone} any more: restore its rows into a table of their own (--into)."
        if gone
        else _ADVICE.get(state, _AGAIN)
    )
    return f"{where}: the table does not take its rows ({what}). {advice}"
