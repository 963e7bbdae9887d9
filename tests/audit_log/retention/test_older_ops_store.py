"""A ledger that was restored from a dump, beside an archive and a table that went on meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest

from adinsights_orchestration.audit_log.archive.run import Archiver
from adinsights_orchestration.audit_log.reading.query import Question, ask
from adinsights_orchestration.audit_log.reading.verify import verify_range
from adinsights_orchestration.audit_log.retention.again import archive_again, not_held_any_more
from adinsights_orchestration.audit_log.retention.run import Retention, RetentionReport
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from adinsights_orchestration.audit_log.store.opening import open_store
from adinsights_orchestration.ops_store import audit_tables
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import AuditLogSettings
from adinsights_orchestration.tenants.model import Tenant
from tests.audit_log.archived import NOW, TODAY, serve, settings_for
from tests.audit_log.rows import Row, ids, insert, moment
from tests.backend.backend_tables import create_backend
from tests.conftest import PostgresServer

ONE = UUID(int=1)
FIRST, SECOND, THIRD = (TODAY - timedelta(days=days) for days in (370, 369, 368))
YOUNG = TODAY - timedelta(days=40)
TABLES = [name for name in vars(audit_tables) if name.startswith("audit_")]


@contextmanager
def as_before(store: OpsStore) -> Iterator[None]:
    """At its end the audit log's part of the ops store is what it was at the beginning, as after restoring a dump."""
    with store.begin() as connection:
        for table in TABLES:
            connection.exec_driver_sql(f"create table public.{table} as table adinsights_ops.{table}")
    yield
    with store.begin() as connection:
        for table in TABLES:
            connection.exec_driver_sql(f"delete from adinsights_ops.{table}")
            connection.exec_driver_sql(
                f"insert into adinsights_ops.{table} overriding system value table public.{table}"
            )
            connection.exec_driver_sql(f"drop table public.{table}")


@pytest.mark.parametrize("archive_first", [True, False])
def test_a_ledger_from_a_dump_follows_the_archive_and_nothing_is_deleted_that_is_not_archived(
    postgres_server: PostgresServer, ops_store: OpsStore, tmp_path: Path, archive_first: bool
) -> None:
    backend = create_backend(postgres_server.create_database)
    backend.add_tenant("One", ONE)
    serve(ops_store, [Tenant(ONE, "One", "one")])
    plain = settings_for(backend.dsn, ops_store._settings.dsn.get_secret_value())
    settings = plain.model_copy(update={"audit_log": AuditLogSettings(archive_url=(tmp_path / "archive").as_uri())})

    def archived(*days: object) -> None:
        for day in (FIRST, SECOND, THIRD, YOUNG):
            if day in days:
                Archiver(settings, ops_store, AUDIT_LOG).run(day, day, actor="a test")

    def retained() -> RetentionReport:
        parts = {"rearchive": archive_again(settings, ops_store), "unproven": not_held_any_more(settings, ops_store)}
        return Retention(settings, ops_store, AUDIT_LOG, lambda: NOW, "a test", apply=True, **parts).run()  # type: ignore[arg-type]

    rows = [Row(ONE, moment(day, n)) for day in (FIRST, SECOND, THIRD, YOUNG) for n in range(5)]
    insert(backend.dsn, rows)
    archived(FIRST, SECOND, YOUNG)
    with as_before(ops_store):
        late = Row(ONE, moment(FIRST, 77))
        insert(backend.dsn, [late])
        archived(THIRD)
        assert retained().rows == 16, "the late row's day was archived anew, all are deleted"
        unarchived = Row(ONE, moment(SECOND, 88))
        insert(backend.dsn, [unarchived])
    steps: list[Callable[[], object]] = [lambda: archived(FIRST, SECOND, THIRD, YOUNG), retained]
    for step in (*(steps if archive_first else reversed(steps)), *steps):
        step()
    store = open_store(settings.audit_log)
    assert verify_range(store, AUDIT_LOG, FIRST, YOUNG, at_once=1).problems == []
    answer = ask(store, AUDIT_LOG, Question(sql="select count(*) from audit_log"))
    assert answer.rows == [(len(rows) + 2,)]
    assert ids(backend.dsn) == {row.id for row in rows if row.day == YOUNG}
