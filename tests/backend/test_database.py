"""The backend's database through row level security: detected, never assumed, never left behind."""

from __future__ import annotations

import logging
import socket
import traceback
import uuid
from collections.abc import Callable
from uuid import UUID

import psycopg
import pytest

from adinsights_orchestration.backend.database import (
    BackendDatabase,
    BackendDatabaseError,
    BackendSession,
    rows_of_tenants,
)
from tests.backend.backend_tables import Backend, backend_settings, create_backend, database_of
from tests.conftest import PostgresServer, free_port

TABLE = "integrations_airbyteconnection"
NAMES = f"select tenant_id, name from {TABLE} where tenant_id = any(%(tenants)s) order by name"


def _two_tenants(backend: Backend) -> list[UUID]:
    tenants = [backend.add_tenant("One"), backend.add_tenant("Two")]
    for tenant, name in zip((tenants[0], tenants[0], tenants[1]), ("a", "b", "c"), strict=True):
        backend.add_connection(tenant, name)
    return tenants


def _names(session: BackendSession, tenants: list[UUID]) -> list[str]:
    with session.snapshot() as cursor:
        return [row[1] for row in rows_of_tenants(cursor, TABLE, NAMES, tenants, {})]


ROLES: dict[str, Callable[[Backend], str]] = {
    "superuser": lambda backend: backend.dsn,
    "bypassing role": lambda backend: backend.role("bypassrls"),
    "owner": lambda backend: backend.owner_role(forced=False),
    "plain role": lambda backend: backend.role(),
    "owner with forced security": lambda backend: backend.owner_role(forced=True),
}


@pytest.mark.parametrize(
    ("role", "active", "reason"),
    [
        ("superuser", False, "our role is a superuser"),
        ("bypassing role", False, "our role has BYPASSRLS"),
        ("owner", False, "our role owns the table"),
        ("plain role", True, ""),
        ("owner with forced security", True, ""),
    ],
)
def test_row_level_security_is_asked_of_postgres(backend: Backend, role: str, active: bool, reason: str) -> None:
    with database_of(ROLES[role](backend)).session() as session:
        found = session.row_security(TABLE)
    assert (found.active, found.reason) == (active, reason)


def test_a_table_without_policies_says_so(backend: Backend) -> None:
    with database_of(backend.role()).session() as session:
        assert session.row_security("accounts_tenant").reason == "the table has no row level security"


@pytest.mark.parametrize("role", list(ROLES))
def test_every_role_reads_exactly_the_tenants_it_names(backend: Backend, role: str) -> None:
    one, two = _two_tenants(backend)
    with database_of(ROLES[role](backend)).session() as session:
        assert _names(session, [one, two]) == ["a", "b", "c"]
        assert _names(session, [two]) == ["c"]
        assert _names(session, []) == []


def test_the_same_holds_on_postgres_15(postgres_15_server: PostgresServer) -> None:
    backend = create_backend(postgres_15_server.create_database)
    tenants = _two_tenants(backend)
    for role in ROLES.values():
        with database_of(role(backend)).session() as session:
            assert _names(session, tenants) == ["a", "b", "c"]


def test_more_tenants_than_one_round_trip_takes_are_all_read(backend: Backend) -> None:
    tenants = [uuid.UUID(int=number) for number in range(1, 452)]
    backend.execute(
        "insert into accounts_tenant select id, 'T', now() from unnest(%s::uuid[]) id", [str(each) for each in tenants]
    )
    backend.execute(
        f"insert into {TABLE} (id, tenant_id, name, connection_id, schedule_type, created_at, updated_at)"
        " select id, id, id::text, id, 'manual', now(), now() from accounts_tenant"
    )
    with database_of(backend.role()).session() as session:
        assert _names(session, tenants) == [str(each) for each in tenants]


@pytest.mark.parametrize("role", list(ROLES))
def test_a_transaction_stands_in_its_tenant_and_leaves_none_behind(backend: Backend, role: str) -> None:
    one, _ = _two_tenants(backend)
    setting = "select current_setting('app.tenant_id', true)"
    with database_of(ROLES[role](backend)).session() as session:
        with session.in_tenant(one) as cursor:
            assert cursor.execute(setting).fetchone() == (str(one),)
        with session.transaction() as cursor:
            assert cursor.execute(setting).fetchone() in ((None,), ("",))
        with pytest.raises(ValueError, match="broken"), session.in_tenant(one):
            raise ValueError("broken")
        with session.transaction() as cursor:
            assert cursor.execute(setting).fetchone() in ((None,), ("",))


def test_reading_tenants_leaves_none_behind_even_inside_the_same_transaction(backend: Backend) -> None:
    tenants = _two_tenants(backend)
    with database_of(backend.role()).session() as session, session.snapshot() as cursor:
        rows_of_tenants(cursor, TABLE, NAMES, tenants, {})
        assert cursor.execute("select current_setting('app.tenant_id', true)").fetchone() == ("",)


def test_a_session_survives_a_failed_statement_and_stands_in_the_next_tenant_afterwards(backend: Backend) -> None:
    one, two = _two_tenants(backend)
    with database_of(backend.role()).session() as session:
        with pytest.raises(psycopg.errors.DivisionByZero), session.in_tenant(one) as cursor:
            cursor.execute("select 1 / 0")
        assert _names(session, [two]) == ["c"]


@pytest.mark.parametrize("set_before", [False, True])
def test_a_statement_without_a_tenant_is_explained_not_quoted(backend: Backend, set_before: bool) -> None:
    tenants = _two_tenants(backend) if set_before else []

    def read_without_a_tenant() -> None:
        with database_of(backend.role()).session() as session:
            _names(session, tenants)
            with session.transaction() as cursor:
                cursor.execute(f"select * from {TABLE}")

    with pytest.raises(BackendDatabaseError) as caught:
        read_without_a_tenant()
    shown = "".join(traceback.format_exception(caught.value))
    assert "stood in no tenant" in str(caught.value)
    assert "docs/tenants.md" in str(caught.value)
    assert "unrecognized configuration parameter" not in shown
    assert "invalid input syntax" not in shown


def test_a_missing_grant_names_the_table_and_where_the_grants_are_listed(backend: Backend) -> None:
    tenants = _two_tenants(backend)
    dsn = backend.role(granted=False)
    expected = rf"permission denied for table {TABLE}.*docs/tenants.md"
    with pytest.raises(BackendDatabaseError, match=expected), database_of(dsn).session() as session:
        _names(session, tenants)


def test_another_database_is_recognised_by_its_missing_tables(database: str) -> None:
    expected = r"tables are not there.*names the backend's database"
    with pytest.raises(BackendDatabaseError, match=expected), database_of(database).session() as session:
        _names(session, [uuid.uuid4()])


def test_a_statement_is_ended_at_its_deadline_even_when_it_waits_for_a_lock(backend: Backend) -> None:
    tenants = _two_tenants(backend)
    database = BackendDatabase(backend_settings(backend.role(), request_timeout_seconds=0.2))
    with psycopg.connect(backend.dsn) as blocker:
        blocker.execute(f"lock table {TABLE} in access exclusive mode")
        with pytest.raises(BackendDatabaseError, match="took too long"), database.session() as session:
            _names(session, tenants)


def test_a_server_that_accepts_and_never_answers_is_given_up() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        dsn = f"postgresql://u:canary-secret@127.0.0.1:{silent.getsockname()[1]}/x"
        database = BackendDatabase(backend_settings(dsn, request_timeout_seconds=0.1))
        with pytest.raises(BackendDatabaseError, match="ADINSIGHTS_BACKEND__DSN"), database.session():
            pass


@pytest.mark.parametrize(
    "dsn",
    [
        f"postgresql://someone:canary-secret@127.0.0.1:{free_port()}/nowhere",
        "canary-secret",
        "postgresql://someone:canary-secret@[broken/nowhere",
    ],
    ids=["nobody answers", "no address", "broken address"],
)
def test_no_failure_to_connect_shows_the_password(dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(BackendDatabaseError) as caught, database_of(dsn).session():
        pass
    shown = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert "canary-secret" not in shown
    assert "ADINSIGHTS_BACKEND__DSN" in str(caught.value)


def test_a_wrong_password_is_said_without_the_password(backend: Backend) -> None:
    dsn = backend.role().replace("canary-secret", "wrong-canary")
    expected = "password authentication failed"
    with pytest.raises(BackendDatabaseError, match=expected) as caught, database_of(dsn).session():
        pass
    assert "wrong-canary" not in "".join(traceback.format_exception(caught.value))
