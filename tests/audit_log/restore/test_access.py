"""Restoring with real roles and into tables of any name: least rights suffice, and what is not ours is refused."""

from __future__ import annotations

from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from adinsights_orchestration.audit_log.restore.target import RestoreError, require_name
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from adinsights_orchestration.audit_log.table.access import AuditAccessError
from tests.audit_log.conftest import Place
from tests.audit_log.restoring import RESTORED, all_days, empty, restore, restore_live, rows_of
from tests.audit_log.rows import TABLE


@pytest.fixture
def gone(place: Place) -> Place:
    place.archive()
    empty(place)
    return place


def as_role(place: Place, attributes: str = "", grants: str = "select, insert") -> str:
    """Lets restores connect as a new role with these rights; returns its name."""
    dsn = place.backend.role(attributes, granted=False)
    name = str(conninfo_to_dict(dsn)["user"])
    if grants:
        place.backend.execute(f"grant {grants} on {TABLE} to {name}")
    place.backend.execute(f"grant select (id) on accounts_user to {name}")
    log = place.settings.audit_log.model_copy(update={"restore_dsn": SecretStr(dsn)})
    place.settings = place.settings.model_copy(update={"audit_log": log})
    return name


@pytest.mark.parametrize("attributes", ["bypassrls", ""], ids=["bypassing", "bound by the policy"])
def test_the_documented_role_restores_everybodys_rows_and_may_not_delete(gone: Place, attributes: str) -> None:
    role = as_role(gone, attributes)
    assert restore_live(gone).total.came == len(gone.rows)
    assert {row[0] for row in rows_of(gone)} == {row.id for row in gone.rows}
    assert restore_live(gone).total.there == len(gone.rows)
    assert gone.backend.execute(f"select has_table_privilege('{role}', '{TABLE}', 'delete')") == [(False,)]


def test_a_bound_role_restores_one_tenant_into_a_table_that_holds_only_others_rows(place: Place) -> None:
    one = place.tenants[0]
    place.archive()
    place.backend.execute(f"delete from {TABLE} where tenant_id = %s", one)
    place.backend.execute(f"analyze {TABLE}")
    as_role(place)
    assert restore_live(place, all_days(one)).total.came == sum(row.tenant == one for row in place.rows)


def test_whom_policies_hide_from_the_role_is_not_taken_for_gone(place: Place) -> None:
    tenant, user = place.tenants[0], uuid4()
    place.backend.execute("insert into accounts_user values (%s, %s, 'x@example.com')", user, tenant)
    place.backend.execute(f"update {TABLE} set user_id = %s where tenant_id = %s", user, tenant)
    place.archive()
    empty(place)
    as_role(place)
    place.backend.execute("alter table accounts_user enable row level security")
    place.backend.execute("create policy nobody on accounts_user using (false)")
    assert restore_live(place).total.came == len(place.rows)
    of_the_user = place.backend.execute(f"select count(*) from {TABLE} where user_id = %s", user)
    assert of_the_user == [(sum(row.tenant == tenant for row in place.rows),)]


def test_a_role_that_may_not_insert_is_refused_before_anything(gone: Place) -> None:
    as_role(gone, grants="select")
    with pytest.raises(AuditAccessError, match="lacks INSERT"):
        restore_live(gone)


def test_a_role_without_a_policy_for_insert_is_refused(gone: Place) -> None:
    as_role(gone)
    gone.backend.execute(f"drop policy tenant_isolation on {TABLE}")
    gone.backend.execute(
        f"create policy other on {TABLE} for select using (tenant_id = current_setting('app.tenant_id')::uuid)"
    )
    with pytest.raises(AuditAccessError, match="no policy for INSERT"):
        restore_live(gone)


def test_a_role_with_a_schema_of_its_own_needs_no_right_on_the_live_table(gone: Place) -> None:
    role = as_role(gone, grants="")
    gone.backend.execute(f"create schema restored authorization {role}")
    assert restore(gone, into="restored.case_4711").well
    assert len(rows_of(gone, "restored.case_4711")) == len(gone.rows)
    with pytest.raises(RestoreError, match="42501"):
        restore(gone)  # the default is a table in the live one's schema


def test_a_table_of_its_own_is_its_owners_alone_whatever_default_privileges_say(gone: Place) -> None:
    other = gone.backend.role("", granted=False)
    gone.backend.execute(f"alter default privileges grant select on tables to {conninfo_to_dict(other)['user']}")
    restore(gone)
    with psycopg.connect(other) as reader:
        assert reader.execute(f"select count(*) from {RESTORED}").fetchone() == (0,)
    assert len(rows_of(gone, RESTORED)) == len(gone.rows)


def test_a_table_that_no_restore_made_is_never_written_to(gone: Place) -> None:
    gone.backend.execute(f"create table precious (like {TABLE} including all)")
    with pytest.raises(RestoreError, match="a table that no restore made"):
        restore(gone, into="precious")
    assert rows_of(gone, "precious") == []


@pytest.mark.parametrize("name", [TABLE, f"public.{TABLE}", "A", "a b", "a;drop table x", "", "a.b.c", "x" * 64])
def test_a_name_that_is_none_or_the_live_tables_is_refused(name: str) -> None:
    with pytest.raises(RestoreError, match="cannot name the table"):
        require_name(AUDIT_LOG, name)
