"""The generated audit log: a year and a month of it, made once, looking like what the backend writes."""

from __future__ import annotations

import threading
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from adinsights_orchestration.local import audit_history, environment
from adinsights_orchestration.local.ad_platforms.accounts import LOCAL_TENANTS
from adinsights_orchestration.local.backend import prepare_backend
from adinsights_orchestration.local.seed import tenant_id
from adinsights_orchestration.local.settings import LocalSettings
from tests.conftest import PostgresServer

NOW = datetime(2026, 3, 2, 14, tzinfo=UTC)
TODAY = NOW.date()
FIRST = TODAY - timedelta(days=395)
SHORT = TODAY - timedelta(days=20)


@pytest.fixture
def backend(database: str) -> str:
    prepare_backend(LocalSettings(), database, NOW)
    return database


@pytest.fixture(scope="module")
def seeded(postgres_server: PostgresServer) -> str:
    """A backend with the whole history, to be read only."""
    dsn = postgres_server.create_database()
    prepare_backend(LocalSettings(), dsn, NOW)
    audit_history.seed_audit_history(dsn, FIRST, NOW)
    return dsn


@pytest.fixture
def local(tmp_path: Path) -> LocalSettings:
    return LocalSettings(state_dir=tmp_path / "new")


def rows(dsn: str, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(dsn) as connection:
        connection.execute("set timezone = 'UTC'")
        return connection.execute(statement.encode()).fetchall()


def test_every_tenant_has_some_tens_of_rows_on_every_day_but_today(seeded: str) -> None:
    per_day = "select tenant_id, created_at::date as day, count(*) as n from accounts_auditlog group by 1, 2"
    figures = rows(seeded, f"select count(*), min(n), max(n), sum(n), min(day), max(day) from ({per_day}) d")
    assert figures == [(3 * 395, 9, 46, 32_375, FIRST, TODAY - timedelta(days=1))]


def test_rows_are_what_the_backend_writes(seeded: str) -> None:
    kinds = "select action, resource_type, count(*) > 300 from accounts_auditlog group by 1, 2 order by 1"
    assert rows(seeded, kinds) == [
        ("airbyte_job_webhook", "airbyte_connection", True),
        ("airbyte_sync_triggered", "airbyte_connection", True),
        ("credential_changed", "credential", True),
        ("login", "user", True),
        ("login_failed", "user", True),
        ("logout", "user", True),
        ("role_changed", "role", True),
    ]
    of_nobody = "select distinct action from accounts_auditlog where user_id is null order by 1"
    assert rows(seeded, of_nobody) == [("airbyte_job_webhook",), ("login_failed",)]
    others_connection = """
    select 1 from accounts_auditlog a where resource_type = 'airbyte_connection' and not exists
      (select from integrations_airbyteconnection c where c.tenant_id = a.tenant_id and c.id::text = a.resource_id
          and a.metadata ->> 'connection_id' = a.resource_id)
    """
    assert rows(seeded, others_connection) == []
    others_user = """
    select 1 from accounts_auditlog a join accounts_user u on u.id = a.user_id
     where u.tenant_id <> a.tenant_id or a.metadata ->> 'email' <> u.email
    """
    assert rows(seeded, others_user) == []


def test_people_work_in_their_own_daytime_and_less_on_weekends(seeded: str) -> None:
    for tenant in LOCAL_TENANTS:
        clock = f"created_at at time zone '{tenant.timezone}'"
        hours = rows(
            seeded,
            f"select min(extract(hour from {clock}))::int, max(extract(hour from {clock}))::int from accounts_auditlog"
            f" where tenant_id = '{tenant_id(tenant)}' and action = 'login'",
        )
        assert hours == [(8, 17)]
    weekend = "select count(*) filter (where extract(isodow from created_at) > 5), count(*) from accounts_auditlog"
    ((on_weekends, all_rows),) = rows(seeded, weekend)
    assert isinstance(on_weekends, int)
    assert isinstance(all_rows, int)
    assert on_weekends / all_rows < 0.2


def test_it_is_the_same_on_every_machine(backend: str) -> None:
    audit_history.seed_audit_history(backend, TODAY - timedelta(days=2), NOW)
    assert rows(backend, "select min(id::text), max(created_at)::text from accounts_auditlog") == [
        ("0bfd6d86-ca3e-a559-87dc-f683456f2747", "2026-03-01 23:08:13.7721+00")
    ]


def test_what_was_deleted_since_does_not_come_back_with_the_next_start(backend: str) -> None:
    made = audit_history.seed_audit_history(backend, SHORT, NOW)
    with psycopg.connect(backend) as connection:
        gone = connection.execute("delete from accounts_auditlog where created_at < '2026-02-20Z'").rowcount
    assert audit_history.seed_audit_history(backend, SHORT, NOW + timedelta(days=9)) == 0
    assert rows(backend, "select count(*) from accounts_auditlog") == [(made - gone,)]


def test_two_starts_at_once_make_it_once(backend: str) -> None:
    made: list[int] = []
    starts = [
        threading.Thread(target=lambda: made.append(audit_history.seed_audit_history(backend, SHORT, NOW)))
        for _ in range(2)
    ]
    for start in starts:
        start.start()
    for start in starts:
        start.join()
    assert sorted(made)[0] == 0
    assert rows(backend, "select count(*) from accounts_auditlog") == [(max(made),)]


def test_a_start_that_died_before_its_end_has_made_nothing(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(audit_history, "_HISTORY", audit_history._HISTORY + "; this is where it dies")
        with pytest.raises(psycopg.errors.SyntaxError):
            audit_history.seed_audit_history(backend, SHORT, NOW)
    assert rows(backend, "select count(*) from accounts_auditlog") == [(0,)]
    assert audit_history.seed_audit_history(backend, SHORT, NOW) > 0


def test_without_history_no_row_is_made(backend: str, local: LocalSettings) -> None:
    none = local.model_copy(update={"audit_history_days": 0})
    first = audit_history.first_day(none, NOW)
    assert first == TODAY
    assert audit_history.seed_audit_history(backend, first, NOW) == 0


def test_the_first_day_stays_the_one_that_the_folder_was_made_with(local: LocalSettings) -> None:
    assert audit_history.first_day(local, NOW) == FIRST
    audit_history.keep_first_day(local, FIRST)
    later = NOW + timedelta(days=30)
    audit_history.keep_first_day(local, audit_history.first_day(local, later))
    assert audit_history.first_day(local, later) == FIRST


def test_the_archive_lies_in_the_stacks_own_folder_and_begins_with_its_history(local: LocalSettings) -> None:
    audit_history.keep_first_day(local, date(2025, 2, 1))
    variables = environment.stack_environment(local)
    assert variables["ADINSIGHTS_AUDIT_LOG__ARCHIVE_URL"] == f"file://{local.state_dir}/audit_archive"
    assert variables["ADINSIGHTS_AUDIT_LOG__FIRST_DAY"] == "2025-02-01"
