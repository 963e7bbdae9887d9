"""The archive's own seal is what retention compares with."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from psycopg.conninfo import conninfo_to_dict

from adinsights_orchestration.audit_log.archive.run import Archiver
from adinsights_orchestration.audit_log.reading.query import Question, ask
from adinsights_orchestration.audit_log.reading.verify import verify_range
from adinsights_orchestration.audit_log.retention.again import archive_again
from adinsights_orchestration.audit_log.retention.automation import build_retention
from adinsights_orchestration.audit_log.retention.run import Retention
from adinsights_orchestration.audit_log.source import AUDIT_LOG, Source
from adinsights_orchestration.audit_log.store.opening import open_store
from adinsights_orchestration.audit_log.table.access import AuditAccessError
from adinsights_orchestration.environments import Automation
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import AuditLogSettings
from adinsights_orchestration.tenants.model import Tenant
from tests.audit_log.archived import NOW, TODAY, serve, settings_for
from tests.audit_log.rows import TABLE, Row, ids, insert, moment
from tests.backend.backend_tables import Backend, create_backend
from tests.conftest import PostgresServer

ONE, TWO = UUID(int=1), UUID(int=2)
FIRST = TODAY - timedelta(days=370)


@pytest.mark.parametrize("late", [False, True])
def test_days_that_the_archive_sealed_go_and_a_late_row_is_archived_first(
    postgres_server: PostgresServer, ops_store: OpsStore, tmp_path: Path, late: bool
) -> None:
    backend = create_backend(postgres_server.create_database)
    backend.add_tenant("One", ONE)
    plain = settings_for(backend.dsn, ops_store._settings.dsn.get_secret_value())
    settings = plain.model_copy(update={"audit_log": AuditLogSettings(archive_url=(tmp_path / "archive").as_uri())})
    rows = [Row(ONE, moment(FIRST + timedelta(days=day), n)) for day in range(3) for n in range(5)]
    insert(backend.dsn, rows)
    Archiver(settings, ops_store, AUDIT_LOG).run(FIRST, FIRST + timedelta(days=2), actor="a test")
    if late:
        insert(backend.dsn, [Row(ONE, moment(FIRST, 77))])
    serve(ops_store, [Tenant(ONE, "One", "one")])
    again = archive_again(settings, ops_store)
    report = Retention(settings, ops_store, AUDIT_LOG, lambda: NOW, "a test", again, apply=True).run()
    assert (report.unequal, report.rows, report.rearchived) == ([], 15 + late, [FIRST] if late else [])
    assert not ids(backend.dsn)


def test_rows_that_come_long_after_their_day_was_archived_are_archived_and_go(
    postgres_server: PostgresServer, ops_store: OpsStore, tmp_path: Path
) -> None:
    backend = create_backend(postgres_server.create_database)
    for tenant in (ONE, TWO):
        backend.add_tenant(f"Tenant {tenant.int}", tenant)
    plain = settings_for(backend.dsn, ops_store._settings.dsn.get_secret_value())
    settings = plain.model_copy(update={"audit_log": AuditLogSettings(archive_url=(tmp_path / "archive").as_uri())})
    young = TODAY - timedelta(days=40)
    insert(backend.dsn, [Row(ONE, moment(day, n)) for day in (FIRST, young) for n in range(5)])
    archiver = Archiver(settings, ops_store, AUDIT_LOG)
    for day in (FIRST, young):
        archiver.run(day, day, actor="a test")
    serve(ops_store, [Tenant(each, f"Tenant {each.int}", f"tenant-{each.int}") for each in (ONE, TWO)])
    again: list[list[date]] = []

    def rearchive(source: Source, days: Sequence[date]) -> None:
        again.append(list(days))
        archive_again(settings, ops_store)(source, days)

    definitions = build_retention(settings, ops_store, rearchive=rearchive, clock=lambda: NOW)
    job = definitions.resolve_job_def(Automation.RETENTION.value)
    apply = {"ops": {"audit_log__retention": {"config": {"dry_run": False}}}}
    assert job.execute_in_process(run_config=apply).success
    assert (len(ids(backend.dsn)), again) == (5, [])
    # A tenant without a chunk of the day, a chunk that is deleted, and a day that nothing looks at any more.
    late = [Row(TWO, moment(FIRST, 7)), Row(ONE, moment(FIRST, 77)), Row(TWO, moment(young, 7))]
    insert(backend.dsn, late)
    assert job.execute_in_process().success
    assert again == [], "a dry run archives nothing"
    assert job.execute_in_process(run_config=apply).success
    assert again == [[FIRST], [young]]
    report = verify_range(open_store(settings.audit_log), AUDIT_LOG, FIRST, FIRST, at_once=1)
    assert (report.problems, report.rows) == ([], 7)
    result = job.execute_in_process(run_config=apply)
    assert again == [[FIRST], [young]], "what is archived by now is not archived again"
    assert all(each.passed for each in result.get_asset_check_evaluations())
    assert len(ids(backend.dsn)) == 6
    assert late[2].id in ids(backend.dsn)


def test_what_a_migration_filled_in_later_is_in_the_archive_when_its_row_has_gone(
    postgres_server: PostgresServer, ops_store: OpsStore, tmp_path: Path
) -> None:
    backend = create_backend(postgres_server.create_database)
    backend.add_tenant("One", ONE)
    plain = settings_for(backend.dsn, ops_store._settings.dsn.get_secret_value())
    settings = plain.model_copy(update={"audit_log": AuditLogSettings(archive_url=(tmp_path / "archive").as_uri())})
    insert(backend.dsn, [Row(ONE, moment(FIRST + timedelta(days=day), n)) for day in range(2) for n in range(5)])
    Archiver(settings, ops_store, AUDIT_LOG).run(FIRST, FIRST + timedelta(days=1), actor="a test")
    backend.execute(f"alter table {TABLE} add column region text")
    backend.execute(f"update {TABLE} set region = 'eu' where created_at < %s", moment(FIRST + timedelta(days=1)))
    serve(ops_store, [Tenant(ONE, "One", "one")])
    again = archive_again(settings, ops_store)
    report = Retention(settings, ops_store, AUDIT_LOG, lambda: NOW, "a test", again, apply=True).run()
    assert (report.unequal, report.rows, report.rearchived) == ([], 10, [FIRST])
    assert not ids(backend.dsn)
    question = Question(sql="select region, count(*) as rows from audit_log group by region order by region")
    assert ask(open_store(settings.audit_log), AUDIT_LOG, question, at_once=1).rows == [("eu", 5), (None, 5)]


@pytest.mark.parametrize("attributes", ["bypassrls", "nobypassrls"])
def test_the_documented_role_archives_and_deletes_and_archives_again_what_came_late(
    backend: Backend, ops_store: OpsStore, tmp_path: Path, attributes: str
) -> None:
    for tenant in (ONE, TWO):
        backend.add_tenant(f"Tenant {tenant.int}", tenant)
    dsn = backend.role(attributes, granted=False)
    role = conninfo_to_dict(dsn)["user"]
    backend.execute(f"grant select, delete, insert on {TABLE} to {role}")
    plain = settings_for(backend.dsn, ops_store._settings.dsn.get_secret_value(), dsn=dsn)
    settings = plain.model_copy(update={"audit_log": AuditLogSettings(archive_url=(tmp_path / "archive").as_uri())})
    insert(backend.dsn, [Row(tenant, moment(FIRST, n)) for tenant in (ONE, TWO) for n in range(5)])
    archiver = Archiver(settings, ops_store, AUDIT_LOG)
    if attributes == "nobypassrls":
        with pytest.raises(AuditAccessError, match="our role lacks SELECT on accounts_tenant"):
            archiver.run(FIRST, FIRST, actor="a test")
        backend.execute(f"grant select on accounts_tenant to {role}")
    assert archiver.run(FIRST, FIRST, actor="a test").rows == 10
    insert(backend.dsn, [Row(ONE, moment(FIRST, 77))])
    serve(ops_store, [Tenant(ONE, "One", "one"), Tenant(TWO, "Two", "two")])
    again = archive_again(settings, ops_store)
    report = Retention(settings, ops_store, AUDIT_LOG, lambda: NOW, "a test", again, apply=True).run()
    assert (report.rows, report.rearchived, report.unequal) == (11, [FIRST], [])
    assert not ids(backend.dsn)
