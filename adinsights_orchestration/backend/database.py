"""The backend's database: connecting with deadlines, and reading many tenants through row level security.

Belongs here: sessions, transactions that stand in one tenant, and what our role may see. Does not belong here: any
table's meaning (`tenants.sources`, `audit`). The backend isolates tenants by a policy on a session setting; whether
that binds our role is asked of Postgres, never assumed. The setting is only ever made local to a transaction, so no
session can carry one tenant into the next statement, not even behind a connection pooler.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from math import ceil, inf
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from psycopg.rows import TupleRow

from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.settings import BackendSettings

TENANT_SETTING = "app.tenant_id"
_PLACE = "ADINSIGHTS_BACKEND__DSN"
_TENANTS_PER_ROUND_TRIP = 200
_ROLE_ADVICE = "docs/tenants.md lists the grants that the orchestrator's role needs."
_ADVICE_BY_SQLSTATE: Mapping[str, tuple[str, str]] = {
    "42501": ("our role may not do this in the backend's database", _ROLE_ADVICE),
    "42P01": ("the backend's tables are not there", "Check that the address names the backend's database."),
    "42703": ("the backend's tables lack a column", "Check that the backend's migrations have run."),
    "57014": ("the backend's database took too long", "It may be overloaded; the next tick tries again."),
    "55P03": ("the backend's database took too long", "Something holds a lock there; the next tick tries again."),
}
_SPEAKING_SQLSTATES = ("42501", "42P01", "42703")  # whose own text names a table or column, and nothing of a row
_SHORTEST_STATEMENT_SECONDS = 0.001  # Postgres takes 0 for "no limit"
# A transaction whose client the network has swallowed would keep its locks until the server's keepalive, hours later.
_IDLE_IN_TRANSACTION = "20s"
_HANG_UP_AFTER_SECONDS = 1.0  # what the server is given to end a statement by itself
Cursor = psycopg.Cursor[TupleRow]


class BackendDatabaseError(AdinsightsError):
    """The backend's database does not answer, or not what it should."""


@dataclass(frozen=True, slots=True)
class RowSecurity:
    """Whether a table's policies bind our role, and why not where they do not."""

    active: bool
    reason: str


class BackendSession:
    """One connection to the backend's database, in autocommit; every method opens its own transaction.

    Args:
        connection: An autocommit connection that nothing else uses.
        timeout_seconds: How long one statement may run, locks included.
        left: Seconds that the caller still has; no statement runs longer.
    """

    def __init__(
        self,
        connection: psycopg.Connection[TupleRow],
        timeout_seconds: float,
        left: Callable[[], float] = lambda: inf,
    ) -> None:
        self._connection = connection
        self._timeout_seconds = timeout_seconds
        self._left = left

    @contextmanager
    def transaction(self) -> Iterator[Cursor]:
        """A transaction that stands in no tenant: for tables without a policy, and `rows_of_tenants`."""
        with self._connection.transaction(), self._connection.cursor() as cursor:
            self._prepare(cursor)
            yield cursor

    @contextmanager
    def snapshot(self) -> Iterator[Cursor]:
        """A read-only transaction in which every statement sees the same moment; it stands in no tenant."""
        with self._connection.transaction(), self._connection.cursor() as cursor:
            cursor.execute("set transaction isolation level repeatable read, read only")
            self._prepare(cursor)
            yield cursor

    @contextmanager
    def in_tenant(self, tenant_id: UUID) -> Iterator[Cursor]:
        """A transaction that stands in one tenant; statements in it name the tenant all the same.

        The setting is made whether or not the policies bind our role: it changes nothing for a role that they do not
        bind, and a role whose rights change between two statements never reads another tenant's rows.
        """
        with self.transaction() as cursor:
            _stand_in(cursor, str(tenant_id))
            yield cursor

    def row_security(self, table: str) -> RowSecurity:
        """Whether the table's policies bind our role, asked of Postgres."""
        with self.transaction() as cursor:
            return row_security(cursor, table)

    def _prepare(self, cursor: Cursor) -> None:
        # Local to the transaction, like the tenant: a pooler's server connection may serve somebody else next.
        seconds = max(min(self._timeout_seconds, self._left()), _SHORTEST_STATEMENT_SECONDS)
        cursor.execute(
            """select set_config('statement_timeout', %s, true), set_config('timezone', 'UTC', true),
                      set_config('datestyle', 'ISO', true),
                      set_config('idle_in_transaction_session_timeout', %s, true)""",
            (f"{ceil(seconds * 1000)}ms", _IDLE_IN_TRANSACTION),
        )


class BackendDatabase:
    """A handle on the backend's database; building it opens nothing.

    Args:
        settings: Address and deadline.
    """

    def __init__(self, settings: BackendSettings) -> None:
        self._settings = settings

    @contextmanager
    def session(self, left: Callable[[], float] = lambda: inf) -> Iterator[BackendSession]:
        """One connection for the body's time; every failure of Postgres leaves it as a `BackendDatabaseError`.

        Args:
            left: Seconds that the caller still has. Connecting and every statement end by then, and a server that has
                gone silent is hung up on.
        """
        with _translated_errors(), self._connect(left()) as connection, _hung_up(connection, left()):
            yield BackendSession(connection, self._settings.request_timeout_seconds, left)

    def _connect(self, seconds: float) -> psycopg.Connection[TupleRow]:
        deadline = max(2, ceil(self._settings.request_timeout_seconds))
        try:
            return psycopg.connect(
                self._settings.dsn.get_secret_value(),
                autocommit=True,
                prepare_threshold=None,  # a pooler in front may give each transaction another server connection
                connect_timeout=max(2, ceil(min(self._settings.request_timeout_seconds, seconds))),  # for each address
                application_name="adinsights",
                keepalives_idle=deadline,
                keepalives_interval=deadline,
                tcp_user_timeout=deadline * 1000,
            )
        except psycopg.ProgrammingError:
            # Its text quotes the address, password included.
            raise BackendDatabaseError(
                "this is not a Postgres address",
                place=_PLACE,
                next_step="It should read postgresql://user:...@host/name.",
            ) from None


def row_security(cursor: Cursor, table: str) -> RowSecurity:
    """Whether the table's policies bind our role, and the reason where they do not.

    `row_security_active` knows every exception that Postgres makes (superusers, BYPASSRLS, owners unless FORCEd); the
    reason is for people.
    """
    cursor.execute(
        """select row_security_active(c.oid), c.relrowsecurity, r.rolsuper, r.rolbypassrls
             from pg_class c, pg_roles r where c.oid = %s::regclass and r.rolname = current_user""",
        (table,),
    )
    row = cursor.fetchone()
    assert row is not None  # an unknown table already failed at the cast
    active, enabled, superuser, bypass = row
    return RowSecurity(active=active, reason=_why_unbound(active, enabled, superuser, bypass))


def rows_of_tenants(
    cursor: Cursor, table: str, query: LiteralString, tenant_ids: Sequence[UUID], parameters: Mapping[str, Any]
) -> list[TupleRow]:
    """Returns the rows of all these tenants, in one statement or, where row level security binds us, one per tenant.

    Args:
        cursor: Of a `snapshot` or `transaction`; afterwards it stands in no tenant.
        table: The table that `query` reads, whose policies count.
        query: Must hold `tenant_id = any(%(tenants)s)`, so that it names its tenants whoever runs it.
        tenant_ids: The tenants to read.
        parameters: The query's other parameters.
    """
    if not tenant_ids:
        return []
    if not row_security(cursor, table).active:
        return cursor.execute(query, {**parameters, "tenants": list(tenant_ids)}).fetchall()
    rows: list[TupleRow] = []
    remaining = iter(tenant_ids)
    while batch := list(islice(remaining, _TENANTS_PER_ROUND_TRIP)):
        rows += _rows_one_tenant_at_a_time(cursor, query, batch, parameters)
    _stand_in(cursor, "")
    return rows


def _rows_one_tenant_at_a_time(
    cursor: Cursor, query: LiteralString, tenant_ids: Sequence[UUID], parameters: Mapping[str, Any]
) -> Iterator[TupleRow]:
    answers = []
    with cursor.connection.pipeline():
        for tenant_id in tenant_ids:
            _stand_in(cursor.connection.cursor(), str(tenant_id))
            answers.append(cursor.connection.execute(query, {**parameters, "tenants": [tenant_id]}))
    for answer in answers:
        yield from answer.fetchall()


def _stand_in(cursor: Cursor, tenant: str) -> None:
    cursor.execute("select set_config(%s, %s, true)", (TENANT_SETTING, tenant))


def _why_unbound(active: bool, enabled: bool, superuser: bool, bypass: bool) -> str:
    if active:
        return ""
    if not enabled:
        return "the table has no row level security"
    if superuser:
        return "our role is a superuser"
    return "our role has BYPASSRLS" if bypass else "our role owns the table"


@contextmanager
def _hung_up(connection: psycopg.Connection[TupleRow], seconds: float) -> Iterator[None]:
    """Ends the connection soon after so many seconds, whatever the server does.

    Postgres's own timeouts are the server's to keep; one that is stopped, or behind a network that swallows what it
    says, keeps none of them, and the client has no timeout for a reply.
    """
    if seconds == inf:
        yield
        return
    wire = socket.socket(fileno=os.dup(connection.fileno()))
    timer = threading.Timer(seconds + _HANG_UP_AFTER_SECONDS, _shut, (wire,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        wire.close()


def _shut(wire: socket.socket) -> None:
    with suppress(OSError):  # closed by now
        wire.shutdown(socket.SHUT_RDWR)


@contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise _translated(error) from None  # the original quotes rows and policies; the translation keeps its code


def _translated(error: psycopg.Error) -> BackendDatabaseError:
    state = error.sqlstate or ""
    if _no_tenant_was_set(error):
        problem = "row level security binds our role, and a statement stood in no tenant"
        return BackendDatabaseError(problem, place=_PLACE, next_step=_ROLE_ADVICE)
    if state in _ADVICE_BY_SQLSTATE:
        problem, advice = _ADVICE_BY_SQLSTATE[state]
        detail = f" ({error.diag.message_primary})" if state in _SPEAKING_SQLSTATES else ""
        return BackendDatabaseError(problem + detail, place=_PLACE, next_step=advice)
    return BackendDatabaseError(
        f"the backend's database does not serve us ({_reason(error)})",
        place=_PLACE,
        next_step="Check that it is up and the address right; `adinsights doctor` shows more.",
    )


def _no_tenant_was_set(error: psycopg.Error) -> bool:
    # A policy on a setting fails with one of two texts: before the setting exists, and after it was local to a
    # transaction that has ended. The quoted parts stay the same in every language of the server.
    said = error.diag.message_primary or ""
    return (error.sqlstate == "42704" and TENANT_SETTING in said) or (error.sqlstate == "22P02" and 'uuid: ""' in said)


def _reason(error: psycopg.Error) -> str:
    if error.sqlstate:
        return f"{error.sqlstate}: {error.diag.message_primary}"
    lines = str(error).strip().splitlines()  # no answer from a server: the client's own words, address without password
    return lines[0] if lines else "no answer"
