"""A backend that is slow, locked or silent: a delivery ends in time, loses nothing, and the next one goes on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adinsights_orchestration.backend.audit import AuditEntry, DeliveryReport, deliver, next_portion, record
from adinsights_orchestration.backend.database import BackendDatabase, BackendDatabaseError
from adinsights_orchestration.clock import TickClock
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings
from tests.backend.backend_tables import Backend, backend_settings
from tests.backend.silent_server import falling_silent
from tests.conftest import HANG_SECONDS

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
STATEMENT_SECONDS = 60  # beyond HANG_SECONDS: where something hangs, only its budget ends a tick before that
COUNT = "select count(*), count(distinct id) from accounts_auditlog"


def _owe(store: OpsStore, tenant_id: UUID, rows: int) -> None:
    with store.begin() as connection:
        for number in range(rows):
            entry = AuditEntry(tenant_id, "airbyte_sync_triggered", "airbyte_connection", f"row {number}", "ada", NOW)
            record(connection, entry)


def _tick(
    store: OpsStore, dsn: str, *, minutes: int = 0, budget: float, timeout: float = STATEMENT_SECONDS
) -> DeliveryReport:
    """One delivery, which its budget must end."""
    began = time.monotonic()
    settings = Settings(backend=backend_settings(dsn, request_timeout_seconds=timeout))
    report = deliver(settings, store, TickClock(NOW + timedelta(minutes=minutes), budget))
    assert time.monotonic() - began < HANG_SECONDS
    return report


def _make_slow(backend: Backend, seconds: float) -> None:
    backend.execute(
        f"create function slow() returns trigger language plpgsql as"
        f" 'begin perform pg_sleep({seconds}); return new; end'"
    )
    backend.execute("create trigger slow before insert on accounts_auditlog for each row execute function slow()")


@contextmanager
def _locked(backend: Backend, statement: str, *parameters: object) -> Iterator[None]:
    with psycopg.connect(backend.dsn) as blocker:
        blocker.execute(statement.encode(), parameters or None)
        yield
        blocker.rollback()


def test_a_thousand_rows_that_do_not_fit_into_a_tick_arrive_once_each_over_several(
    backend: Backend, ops_store: OpsStore
) -> None:
    for name in ("Acme", "Globex", "Initech"):
        _owe(ops_store, backend.add_tenant(name), 333)
    _owe(ops_store, backend.add_tenant("Hooli"), 1)
    _make_slow(backend, 0.005)
    reports = [_tick(ops_store, backend.role(), budget=2)]
    while reports[-1].owed:
        assert reports[-1].error is None
        assert reports[-1].delivered > 0
        assert len(reports) < 10
        reports.append(_tick(ops_store, backend.role(), budget=2))
    assert len(reports) > 2
    assert sum(report.delivered for report in reports) == 1000
    assert backend.execute(COUNT) == [(1000, 1000)]


def test_a_backend_that_takes_almost_a_whole_deadline_for_a_row_still_gets_some_with_each_tick(
    backend: Backend, ops_store: OpsStore
) -> None:
    _owe(ops_store, backend.add_tenant("Acme"), 3)
    _make_slow(backend, 1.2)  # two at once never are in time
    reports = [_tick(ops_store, backend.dsn, budget=4, timeout=2)]
    while reports[-1].owed:
        assert reports[-1].delivered >= 1
        reports.append(_tick(ops_store, backend.dsn, budget=4, timeout=2))
    assert sum(report.delivered for report in reports) == 3


def test_a_locked_audit_log_ends_the_tick_in_time_and_the_next_one_delivers_everything(
    backend: Backend, ops_store: OpsStore
) -> None:
    for name in ("Acme", "Globex"):
        _owe(ops_store, backend.add_tenant(name), 500)
    with _locked(backend, "lock table accounts_auditlog in access exclusive mode"):
        for timeout in (0.5, STATEMENT_SECONDS):
            report = _tick(ops_store, backend.role(), budget=2, timeout=timeout)
            assert (report.delivered, report.owed) == (0, 1000)
            assert "took too long" in (report.error or "")
    assert _tick(ops_store, backend.role(), budget=20) == DeliveryReport(delivered=1000)
    assert backend.execute(COUNT) == [(1000, 1000)]


def test_a_lock_on_one_tenant_holds_up_no_other_even_after_everybody_failed_before(
    backend: Backend, ops_store: OpsStore
) -> None:
    tenants = [backend.add_tenant(name) for name in ("Acme", "Globex", "Initech")]
    for tenant in tenants:
        _owe(ops_store, tenant, 5)
    with _locked(backend, "lock table accounts_auditlog in access exclusive mode"):
        for minute in range(6):  # by then each of them has failed at least once
            _tick(ops_store, backend.dsn, minutes=minute, budget=0.6, timeout=0.3)
    with _locked(backend, "select 1 from accounts_tenant where id = %s for update", tenants[0]):
        minute, owed = 10, 15
        while owed > 5:
            assert minute < 50, "the others are held up"
            owed = _tick(ops_store, backend.dsn, minutes=minute, budget=0.6, timeout=0.4).owed
            minute += 1
        assert owed == 5
        assert backend.execute("select count(*) from accounts_auditlog where tenant_id = %s", tenants[0]) == [(0,)]
    assert _tick(ops_store, backend.dsn, budget=10) == DeliveryReport(delivered=5)
    assert backend.execute(COUNT) == [(15, 15)]


def test_a_server_that_falls_silent_in_the_middle_is_hung_up_on_and_nothing_is_doubled(
    backend: Backend, ops_store: OpsStore
) -> None:
    _owe(ops_store, backend.add_tenant("Acme"), 20)
    with falling_silent(backend.dsn, b"insert into accounts_auditlog") as dsn:
        report = _tick(ops_store, dsn, budget=1)
    assert (report.delivered, report.owed) == (0, 20)
    assert "ADINSIGHTS_BACKEND__DSN" in (report.error or "")
    # The connection dies with the commit under way: whether it arrived, nobody can tell.
    with falling_silent(backend.dsn, b"COMMIT") as dsn:
        assert _tick(ops_store, dsn, budget=1).delivered == 0
    assert _tick(ops_store, backend.dsn, budget=10) == DeliveryReport(delivered=20)
    assert backend.execute(COUNT) == [(20, 20)]


def test_a_row_that_the_backend_cannot_hold_costs_none_of_the_portion_it_is_handed_over_in(
    backend: Backend, ops_store: OpsStore
) -> None:
    tenant = backend.add_tenant("Acme")
    _owe(ops_store, tenant, 150)
    backend.execute("alter table accounts_auditlog add constraint odd check (resource_id <> 'row 77')")
    assert _tick(ops_store, backend.role(), budget=20) == DeliveryReport(delivered=149, refused=1)
    assert backend.execute("select count(*) from accounts_auditlog where resource_id = 'row 77'") == [(0,)]


def test_no_statement_of_a_session_outlives_what_its_caller_has_left(backend: Backend) -> None:
    database = BackendDatabase(backend_settings(backend.dsn, request_timeout_seconds=STATEMENT_SECONDS))
    clock = TickClock(NOW, 0.5)
    began = time.monotonic()

    def sleep_for_ever() -> None:
        with database.session(clock.left) as session:
            while True:
                with session.transaction() as cursor:
                    cursor.execute("select pg_sleep(0.2)")

    with pytest.raises(BackendDatabaseError, match="took too long"):
        sleep_for_ever()
    assert time.monotonic() - began < HANG_SECONDS


def test_a_transaction_that_its_client_abandons_keeps_no_lock_for_long(backend: Backend) -> None:
    with BackendDatabase(backend_settings(backend.dsn)).session() as session, session.transaction() as cursor:
        assert cursor.execute("show idle_in_transaction_session_timeout").fetchone() == ("20s",)


@given(st.integers(1, 200), st.floats(0, 60))
def test_a_portion_grows_while_the_backend_is_quick_and_shrinks_while_it_is_slow(rows: int, seconds: float) -> None:
    following = next_portion(rows, seconds)
    assert 1 <= following <= 200
    if seconds > 1:
        assert following <= max(rows // 2, 1)
    elif seconds < 0.5:
        assert following == min(rows * 2, 200)
    else:
        assert following == rows


def test_the_parts_of_a_tick_never_have_more_than_the_tick() -> None:
    seconds = 0.0
    clock = TickClock(NOW, 40, seconds=lambda: seconds)
    first = clock.part(0.4)
    seconds = 10
    assert (first.left(), clock.left()) == (6, 30)
    assert first.now() == clock.now() == NOW + timedelta(seconds=10)
    seconds = 50
    assert (first.left(), clock.left(), clock.part(0.5).budget_seconds) == (0, 0, 0)
