"""Row level security and rights, with real roles: what a role would silently do wrong is refused beforehand."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from adinsights_orchestration.audit_log.table.access import Access, AuditAccessError, Right, require_access
from tests.backend.backend_tables import Backend, create_backend
from tests.conftest import PostgresServer
from tests.transformation.support import eventually

TABLE = "accounts_auditlog"
WRITTEN_AT = datetime(2025, 1, 1, tzinfo=UTC)
RETENTION = (Right.SELECT, Right.DELETE)


def audit_role(backend: Backend, attributes: str = "", grants: str = "select, insert, delete") -> str:
    """A role with these rights on the audit log and no other; returns the database's address as that role."""
    dsn = backend.role(attributes, granted=False)
    backend.execute(f"grant {grants} on {TABLE} to {conninfo_to_dict(dsn)['user']}")
    return dsn


def two_tenants(backend: Backend) -> list[UUID]:
    tenants = [backend.add_tenant("One"), backend.add_tenant("Two")]
    for tenant in tenants:
        for _ in range(3):
            row = (uuid.uuid4(), tenant, WRITTEN_AT)
            backend.execute(f"insert into {TABLE} values (%s, %s, null, 'a', 'b', 'c', '{{}}', %s)", *row)
    backend.execute(f"analyze {TABLE}")
    return tenants


def policy(backend: Backend, text: str) -> None:
    """Replaces the table's policy."""
    backend.execute(f"drop policy tenant_isolation on {TABLE}")
    backend.execute(f"create policy other on {TABLE} {text}")


def access(dsn: str, tenants: list[UUID], rights: tuple[Right, ...] = RETENTION) -> Access:
    with psycopg.connect(dsn) as connection, connection.cursor() as cursor:
        return require_access(cursor, TABLE, tenants, rights)


def deleted(dsn: str, found: Access, tenants: list[UUID]) -> list[int]:
    """What a DELETE that names these tenants takes, group by group; rolled back."""
    counts = []
    with psycopg.connect(dsn, autocommit=True) as connection:
        for group in found.groups(tenants):
            with connection.transaction(force_rollback=True), connection.cursor() as cursor:
                found.stand_in(cursor, group)
                cursor.execute(f"delete from {TABLE} where tenant_id = any(%s)", (list(group),))
                counts.append(cursor.rowcount)
    return counts


WHOLE: dict[str, Callable[[Backend], str]] = {
    "superuser": lambda backend: backend.dsn,
    "the documented role": lambda backend: audit_role(backend, "bypassrls"),
    "owner": lambda backend: backend.owner_role(forced=False),
}


@pytest.mark.parametrize("role", list(WHOLE))
def test_a_role_that_no_policy_binds_reaches_all_tenants_at_once_and_only_those_it_names(
    backend: Backend, role: str
) -> None:
    one, two = two_tenants(backend)
    dsn = WHOLE[role](backend)
    found = access(dsn, [one, two])
    assert not found.per_tenant
    assert found.reason
    assert deleted(dsn, found, [one, two]) == [6]
    assert deleted(dsn, found, [two]) == [3]
    assert deleted(dsn, found, []) == []


@pytest.mark.parametrize("forced", [False, True], ids=["plain role", "owner with forced security"])
def test_a_role_that_a_policy_binds_goes_tenant_by_tenant(backend: Backend, forced: bool) -> None:
    tenants = two_tenants(backend)
    dsn = backend.owner_role(forced=True) if forced else audit_role(backend)
    found = access(dsn, tenants)
    assert found.per_tenant
    assert deleted(dsn, found, tenants) == [3, 3]


def test_the_same_holds_on_postgres_15(postgres_15_server: PostgresServer) -> None:
    backend = create_backend(postgres_15_server.create_database)
    tenants = two_tenants(backend)
    whole, bound = audit_role(backend, "bypassrls"), audit_role(backend)
    assert access(whole, tenants) == Access(False, "our role has BYPASSRLS", 15)
    assert access(bound, tenants) == Access(True, "", 15)


@pytest.mark.parametrize(("grants", "missing"), [("select", "DELETE"), ("delete", "SELECT"), ("insert", "SELECT and")])
def test_a_missing_right_is_refused_with_where_the_grants_are(backend: Backend, grants: str, missing: str) -> None:
    tenants = two_tenants(backend)
    with pytest.raises(AuditAccessError, match=rf"lacks {missing}.*docs/audit-log.md"):
        access(audit_role(backend, "bypassrls", grants), tenants)


def test_a_role_whose_policy_lets_it_read_but_not_delete_is_refused(backend: Backend) -> None:
    tenants = two_tenants(backend)
    policy(backend, "for select using (tenant_id = current_setting('app.tenant_id')::uuid)")
    dsn = audit_role(backend)
    assert deleted(dsn, Access(True, "", 16), tenants) == [0, 0]  # what is prevented: nothing deleted, and no error
    with pytest.raises(AuditAccessError, match="no policy for DELETE"):
        access(dsn, tenants)
    assert access(dsn, tenants, (Right.SELECT,)).per_tenant


def test_a_policy_for_another_role_is_none_for_ours(backend: Backend) -> None:
    tenants = two_tenants(backend)
    policy(backend, "to adinsights_app using (tenant_id = current_setting('app.tenant_id')::uuid)")
    with pytest.raises(AuditAccessError, match="no policy for SELECT and DELETE"):
        access(audit_role(backend), tenants)


def test_a_role_that_sees_nothing_of_a_table_with_rows_is_refused(backend: Backend) -> None:
    tenants = two_tenants(backend)
    policy(backend, "using (tenant_id = nullif(current_setting('app.other', true), '')::uuid)")
    with pytest.raises(AuditAccessError, match=r"sees none of the about \d rows.*in any of 2 tenants"):
        access(audit_role(backend), tenants)


def test_a_role_that_sees_nothing_is_refused_too_when_postgres_has_lost_count(backend: Backend) -> None:
    tenants = two_tenants(backend)
    policy(backend, "using (tenant_id = nullif(current_setting('app.other', true), '')::uuid)")
    backend.execute("select pg_stat_reset()")
    with pytest.raises(AuditAccessError, match=r"sees none of the about \d rows"):  # as it was last analyzed
        access(audit_role(backend), tenants)


def test_a_role_that_sees_nothing_is_refused_too_when_postgres_never_counted(backend: Backend) -> None:
    tenants = two_tenants(backend)
    policy(backend, "using (tenant_id = nullif(current_setting('app.other', true), '')::uuid)")
    rows = f"create temp table rows as table {TABLE}; truncate {TABLE}; insert into {TABLE} table rows"
    backend.execute(rows)  # a new file, of which nothing is known
    known = "select n_live_tup from pg_stat_all_tables where relid = %s::regclass"
    assert eventually(lambda: backend.execute(known, TABLE) == [(6,)])  # told only as that session ends
    backend.execute("select pg_stat_reset()")
    with pytest.raises(AuditAccessError, match=r"sees no row of .* whether its \d+ pages hold any.*`analyze accounts_"):
        access(audit_role(backend), tenants)


def test_a_table_that_is_empty_after_rows_were_deleted_is_believed_once_it_was_analyzed(backend: Backend) -> None:
    tenants = two_tenants(backend)
    backend.execute(f"delete from {TABLE}")
    backend.execute(f"analyze {TABLE}")
    assert access(audit_role(backend), tenants).per_tenant


def test_a_bound_role_without_any_tenant_is_refused(backend: Backend) -> None:
    two_tenants(backend)
    with pytest.raises(AuditAccessError, match="no tenant is known"):
        access(audit_role(backend), [])


def test_a_policy_that_shows_one_tenant_the_others_is_refused(backend: Backend) -> None:
    tenants = two_tenants(backend)
    policy(backend, "using (true)")
    with pytest.raises(AuditAccessError, match="show one tenant the rows of others"):
        access(audit_role(backend), tenants)


def test_an_empty_table_is_no_reason_to_refuse(backend: Backend) -> None:
    tenants = [backend.add_tenant("One")]
    assert access(audit_role(backend), tenants).per_tenant


def test_a_role_that_becomes_bound_after_it_was_asked_fails_instead_of_deleting_nothing(backend: Backend) -> None:
    tenants = two_tenants(backend)
    dsn = audit_role(backend, "bypassrls")
    found = access(dsn, tenants)
    backend.execute(f"alter role {conninfo_to_dict(dsn)['user']} nobypassrls")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
        deleted(dsn, found, tenants)


@pytest.mark.parametrize("leaky", [False, True])
def test_a_table_that_names_its_tenants_in_another_column_is_asked_by_that_one(backend: Backend, leaky: bool) -> None:
    tenants = two_tenants(backend)
    backend.execute(f"alter table {TABLE} rename column tenant_id to owner_id")  # its policy goes along
    if leaky:
        policy(backend, "using (true)")
    dsn = audit_role(backend)
    with psycopg.connect(dsn) as connection, connection.cursor() as cursor:
        if not leaky:
            assert require_access(cursor, TABLE, tenants, RETENTION, tenant="owner_id").per_tenant
            return
        with pytest.raises(AuditAccessError, match="one tenant the rows of others"):
            require_access(cursor, TABLE, tenants, RETENTION, tenant="owner_id")


def test_a_bound_role_on_a_table_without_tenants_is_refused(backend: Backend) -> None:
    dsn = audit_role(backend)
    with (
        pytest.raises(AuditAccessError, match="belong to no tenant"),
        psycopg.connect(dsn) as connection,
        connection.cursor() as cursor,
    ):
        require_access(cursor, TABLE, [], RETENTION, tenant=None)
