"""The archive's own seal is what retention compares with."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from adinsights_orchestration.audit_log.archive.run import Archiver
from adinsights_orchestration.audit_log.retention.again import archive_again
from adinsights_orchestration.audit_log.retention.run import Retention
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import AuditLogSettings
from adinsights_orchestration.tenants.model import Tenant
from tests.audit_log.archived import NOW, TODAY, serve, settings_for
from tests.audit_log.rows import Row, ids, insert, moment
from tests.backend.backend_tables import create_backend
from tests.conftest import PostgresServer

ONE = UUID(int=1)
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
