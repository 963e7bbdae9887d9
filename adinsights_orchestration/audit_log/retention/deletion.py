"""Deleting what is proven to be archived, in short transactions that are all or nothing.

Belongs here: one transaction (survey, compare, delete, commit) and what its outcome means. Does not belong here: which
days may go (`audit_log.windows`), in which order a table is gone through (`walk`), the ledger's tables. One REPEATABLE
READ transaction reads what a scope holds, compares it day by day with what was sealed, and deletes exactly the days
that are equal: its DELETE sees the snapshot that was compared, and a row that somebody changes in between fails it as a
whole. Equal means the same number of rows and the same sum of fingerprints over all tenants of the day, which is as
hard to meet by accident for all of them together as for each.

The audit table and the ledger are in two databases. The intent is committed to the ledger between the DELETE and its
COMMIT: a process that dies there leaves days `deleting`, whose rows are either all there or all gone, and the next run
finds out by looking.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from math import ceil
from typing import Protocol
from uuid import UUID

import psycopg
from psycopg import sql

from adinsights_orchestration.audit_log import digest
from adinsights_orchestration.audit_log.model import At
from adinsights_orchestration.audit_log.source import NOBODY
from adinsights_orchestration.audit_log.table.access import Access
from adinsights_orchestration.audit_log.table.reaching import GAVE_WAY, Link
from adinsights_orchestration.audit_log.table.statements import (
    Scope,
    Shape,
    Statement,
    delete,
    delete_counting,
    survey,
    would_delete,
)
from adinsights_orchestration.backend.database import Cursor
from adinsights_orchestration.errors import AdinsightsError


class DeletionError(AdinsightsError):
    """A transaction did something else than it should have; it was rolled back."""


@dataclass(frozen=True, slots=True)
class Content:
    """How many rows, and the sum of their fingerprints."""

    rows: int = 0
    digest: int = 0

    def __add__(self, other: Content) -> Content:
        return Content(self.rows + other.rows, self.digest + other.digest)

    def __sub__(self, other: Content) -> Content:
        return Content(self.rows - other.rows, self.digest - other.digest)


@dataclass(frozen=True, slots=True)
class Found:
    """What a scope holds of one day.

    Attributes:
        content: All of it.
        held: The part that holds on resources keep.
        page: The first page of the table that holds a row of it.
    """

    content: Content
    held: Content
    page: int


@dataclass(frozen=True, slots=True)
class Sealed:
    """What was sealed of one day and is still to be there.

    Attributes:
        chunks: By tenant.
        content: All of them together.
    """

    chunks: Mapping[UUID, Content]
    content: Content = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "content", sum(self.chunks.values(), Content()))


class Ledger(Protocol):
    """Where the intent to delete is kept, in a database that outlives this process.

    `staying` is what remains of each tenant's day because a hold keeps it; usually nothing.
    """

    def begin(self, staying: Mapping[At, Content]) -> bool:
        """Commits that these are being deleted, all of them; False where that is not so any more for one of them."""

    def finish(self, staying: Mapping[At, Content]) -> None:
        """Commits that they are deleted."""

    def abandon(self, staying: Mapping[At, Content]) -> None:
        """Commits that they are all still there: the transaction was rolled back."""


class Counting(Protocol):
    """Where rows are counted that go by age alone, and that no ledger holds."""

    def begin(self, rows: Mapping[At, int]) -> None:
        """Commits that these may be gone at any moment."""

    def finish(self) -> None:
        """They are gone."""

    def abandon(self) -> None:
        """Commits that they are all still there."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a transaction may take.

    Attributes:
        lock_timeout_seconds: How long it waits for somebody else's lock.
        statement_timeout_seconds: How long one statement may run.
    """

    lock_timeout_seconds: float = 2.0
    statement_timeout_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Taken:
    """The outcome of one transaction.

    Attributes:
        days: What was deleted of each day.
        found: What the scope held of every day, deleted or not.
        gave_way: Why it was rolled back, where it was: somebody else was in the way.
    """

    days: Mapping[date, Content] = field(default_factory=dict)
    found: Mapping[date, Found] = field(default_factory=dict)
    gave_way: str = ""

    @property
    def rows(self) -> int:
        """Rows that were deleted."""
        return sum(content.rows for content in self.days.values())


@dataclass(frozen=True, slots=True)
class Swept:
    """The outcome of one transaction by age alone.

    Attributes:
        rows: What was deleted, by tenant and month.
        gave_way: Why it was rolled back, where it was: somebody else was in the way.
    """

    rows: Mapping[At, int] = field(default_factory=dict)
    gave_way: str = ""


class Deleter:
    """Runs the transactions on one connection.

    Args:
        connection: In autocommit, and nobody else's.
        shape: The table.
        access: How our role reaches it.
        ledger: Where intents go.
        limits: What a transaction may take.
        dry: Compare only: what would be deleted is told, and nothing is.
    """

    def __init__(
        self,
        connection: Link,
        shape: Shape,
        access: Access,
        ledger: Ledger,
        limits: Limits = Limits(),
        *,
        dry: bool = False,
    ) -> None:
        self._connection = connection
        self._shape = shape
        self._access = access
        self._ledger = ledger
        self._limits = limits
        self._dry = dry

    def take(self, scope: Scope, expected: Mapping[date, Sealed]) -> Taken:
        """Deletes the days whose content is as expected, all of them or none.

        Args:
            scope: Whose days, and where they lie.
            expected: What was sealed of each day; a tenant of the scope that is not in it has no rows of that day.

        Raises:
            DeletionError: The DELETE went beyond what was compared.
            psycopg.Error: The server or the connection failed; whether the last days are gone is seen by looking.
        """
        intent: dict[At, Content] = {}
        try:
            with self._connection.transaction(), self._connection.cursor() as cursor:
                found = self._survey(cursor, scope)
                equal = {day: each for day, each in found.items() if _is(each, expected.get(day))}
                going = {day: each.content - each.held for day, each in equal.items()}
                going = {day: content for day, content in going.items() if content.rows}
                equal = {day: equal[day] for day in going}
                if not going or self._dry:
                    return Taken(going, found)
                self._delete(cursor, scope, set(found) - set(equal), sum(each.rows for each in going.values()))
                staying = _staying(equal, expected)
                if not self._ledger.begin(staying):
                    raise _NotNowError
                intent = staying
        except _NotNowError:
            return Taken(gave_way="the ledger says otherwise by now")
        except psycopg.Error as error:
            if intent and error.sqlstate is not None and not self._connection.closed:
                self._ledger.abandon(intent)  # the server itself says that the COMMIT failed
            if not isinstance(error, GAVE_WAY):
                raise
            return Taken(gave_way=type(error).__name__)
        self._ledger.finish(intent)
        return Taken(going, found)

    def look(self, scope: Scope) -> Mapping[date, Found]:
        """What the scope holds, without deleting anything."""
        with self._connection.transaction(), self._connection.cursor() as cursor:
            return self._survey(cursor, scope)

    def sweep_by_age(self, scope: Scope, most: int, account: Counting | None) -> Swept:
        """Deletes what lies in the scope, whether or not it is archived, so many rows at most.

        Without an account nothing is deleted: all that would be is told.

        Raises:
            psycopg.Error: The server or the connection failed; what was begun stays counted.
        """
        dry = self._dry or account is None
        statement = would_delete(self._shape, scope) if dry else delete_counting(self._shape, scope, most)
        begun = False
        try:
            with self._connection.transaction(), self._connection.cursor() as cursor:
                self._prepare(cursor, scope)
                rows = {(whose or NOBODY, month): count for whose, month, count in _run(cursor, statement).fetchall()}
                if rows and account is not None and not dry:
                    account.begin(rows)
                    begun = True
        except psycopg.Error as error:
            if begun and account is not None and error.sqlstate is not None and not self._connection.closed:
                account.abandon()
            if not isinstance(error, GAVE_WAY):
                raise
            return Swept(gave_way=type(error).__name__)
        if begun and account is not None:
            account.finish()
        return Swept(rows)

    def _survey(self, cursor: Cursor, scope: Scope) -> dict[date, Found]:
        self._prepare(cursor, scope)
        rows = _run(cursor, survey(self._shape, scope)).fetchall()
        return {
            day: Found(Content(rows, int(digest)), Content(held, int(held_digest)), page)
            for day, rows, digest, page, held, held_digest in rows
        }

    def _delete(self, cursor: Cursor, scope: Scope, unequal: set[date], rows: int) -> None:
        but = tuple(sorted({*scope.but, *unequal}))
        narrowed = Scope(scope.runs, scope.pages, but, scope.holds)
        deleted = _run(cursor, delete(self._shape, narrowed)).rowcount
        if deleted != rows:
            raise DeletionError(
                f"a DELETE found {deleted} rows where {rows} had been read; it was rolled back",
                next_step="The role may see other rows than it may delete: check the table's policies.",
            )

    def _prepare(self, cursor: Cursor, scope: Scope) -> None:
        cursor.execute("set transaction isolation level repeatable read")
        limits = self._limits
        cursor.execute(
            sql.SQL(
                """select set_config('lock_timeout', %s, true), set_config('statement_timeout', %s, true),
                          {}, set_config('enable_sort', 'off', true),
                          set_config('idle_in_transaction_session_timeout', '60s', true)"""
            ).format(digest.spelling(local=True)),
            (_milliseconds(limits.lock_timeout_seconds), _milliseconds(limits.statement_timeout_seconds)),
        )
        self._access.stand_in(cursor, scope.tenants)


class _NotNowError(Exception):
    """Leaves the transaction by rolling it back."""


def _is(found: Found, sealed: Sealed | None) -> bool:
    return sealed is not None and found.content == sealed.content


def _staying(equal: Mapping[date, Found], expected: Mapping[date, Sealed]) -> dict[At, Content]:
    staying: dict[At, Content] = {}
    for day, found in equal.items():
        whose = expected[day].chunks
        if found.held.rows and len(whose) != 1:
            raise DeletionError("rows that a hold keeps were read for several tenants together")
        staying |= {(tenant, day): found.held for tenant in whose}
    return staying


def _run(cursor: Cursor, statement: Statement) -> Cursor:
    return cursor.execute(statement.text, statement.parameters)


def _milliseconds(seconds: float) -> str:
    return f"{ceil(seconds * 1000)}ms"
