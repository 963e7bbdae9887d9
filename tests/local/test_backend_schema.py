"""The backend's tables: row level security, missing indexes, seeds."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from adinsights_orchestration.local import seed
from adinsights_orchestration.local.ad_platforms.accounts import LOCAL_TENANTS
from adinsights_orchestration.local.backend import prepare_backend
from adinsights_orchestration.local.backend.schema import APP_PASSWORD, APP_ROLE
from adinsights_orchestration.local.settings import LocalSettings

NOW = datetime(2026, 3, 2, 14, tzinfo=UTC)


@pytest.fixture
def backend(database: str) -> str:
    prepare_backend(LocalSettings(), database, NOW)
    return database


def rows(dsn: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(statement.encode()).fetchall()


def as_application(dsn: str) -> str:
    return make_conninfo(dsn, user=APP_ROLE, password=APP_PASSWORD)


def test_preparing_again_adds_nothing_and_keeps_what_a_person_changed(backend: str) -> None:
    with psycopg.connect(backend) as connection:
        connection.execute("update integrations_airbyteconnection set is_active = false, name = 'Renamed'")
    prepare_backend(LocalSettings(), backend, NOW)
    assert rows(backend, "select count(*) from accounts_tenant") == [(3,)]
    assert rows(backend, "select distinct name, is_active from integrations_airbyteconnection") == [("Renamed", False)]


def test_the_demo_has_three_tenants_and_eight_connections_on_mixed_schedules(backend: str) -> None:
    found = rows(backend, "select schedule_type, count(*) from integrations_airbyteconnection group by 1 order by 1")
    assert found == [("cron", 3), ("interval", 4), ("manual", 1)]
    names = rows(backend, "select name from accounts_tenant order by name")
    assert names == [("Acme Jamaica Ltd",), ("Globex Media",), ("Initech Inc.",)]


def test_every_schedule_holds_what_its_type_needs(backend: str) -> None:
    wrong = """
    select name from integrations_airbyteconnection
     where (schedule_type = 'interval') <> (interval_minutes is not null)
        or (schedule_type = 'cron') <> (cron_expression <> '')
    """
    assert rows(backend, wrong) == []


def test_the_owner_sees_every_tenant_without_any_setting(backend: str) -> None:
    assert rows(backend, "select count(*) from integrations_airbyteconnection") == [(8,)]


def test_another_role_is_refused_until_the_setting_exists(backend: str) -> None:
    with (
        psycopg.connect(as_application(backend)) as connection,
        pytest.raises(psycopg.errors.UndefinedObject, match="unrecognized configuration parameter"),
    ):
        connection.execute("select * from integrations_airbyteconnection")


def test_another_role_is_refused_after_the_setting_was_reset(backend: str) -> None:
    with psycopg.connect(as_application(backend), autocommit=True) as connection:
        with connection.transaction():
            connection.execute("select set_config('app.tenant_id', %s, true)", (str(uuid.uuid4()),))
        with pytest.raises(psycopg.errors.InvalidTextRepresentation, match="invalid input syntax for type uuid"):
            connection.execute("select * from accounts_auditlog")


def test_another_role_sees_one_tenants_rows_and_all_tenants_names(backend: str) -> None:
    tenant = seed.tenant_id(LOCAL_TENANTS[2])
    with psycopg.connect(as_application(backend)) as connection:
        connection.execute("select set_config('app.tenant_id', %s, false)", (str(tenant),))
        seen = connection.execute("select distinct tenant_id, count(*) from integrations_airbyteconnection group by 1")
        assert seen.fetchall() == [(tenant, 2)]
        assert connection.execute("select count(*) from accounts_tenant").fetchone() == (3,)


def test_the_audit_log_has_no_index_on_its_moment(backend: str) -> None:
    found = rows(backend, "select indexdef from pg_indexes where tablename = 'accounts_auditlog'")
    assert len(found) == 3
    assert not any("created_at" in str(definition) for (definition,) in found)


def test_deleting_a_tenant_takes_its_audit_rows_and_deleting_a_user_leaves_them(backend: str) -> None:
    tenant = seed.tenant_id(LOCAL_TENANTS[0])
    with psycopg.connect(backend) as connection:
        user = connection.execute("select id from accounts_user where tenant_id = %s", (tenant,)).fetchone()
        assert user is not None
        values = (uuid.uuid4(), tenant, user[0], NOW)
        connection.execute(
            "insert into accounts_auditlog values (%s, %s, %s, 'login', 'user', '1', '{}'::jsonb, %s)", values
        )
        connection.execute("delete from accounts_user where id = %s", (user[0],))
        assert connection.execute("select user_id from accounts_auditlog").fetchall() == [(None,)]
        connection.execute("delete from accounts_tenant where id = %s", (tenant,))
        assert connection.execute("select count(*) from accounts_auditlog").fetchone() == (0,)


def test_ids_are_the_same_on_every_machine() -> None:
    first = seed.connections()[0]
    assert str(first.connection_id) == "dcd2a714-d7cf-5f36-b8fd-adf62d0250a1"
    assert len({c.connection_id for c in seed.connections()} | {c.row_id for c in seed.connections()}) == 16
