"""Audit rows: journalled with the act, in the backend exactly once, nobody's trouble another's."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
import sqlalchemy as sa

from adinsights_orchestration.backend import audit
from adinsights_orchestration.backend.audit import (
    SYNC_TRIGGERED,
    AuditEntry,
    DeliveryReport,
    connection_entry,
    deliver,
    record,
)
from adinsights_orchestration.clock import TickClock
from adinsights_orchestration.ops_store.findings import open_findings
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import audit_entry
from adinsights_orchestration.settings import RegistrySettings, RegistrySource, Settings
from adinsights_orchestration.tenants.model import Connection, Provider, Schedule, ScheduleType
from tests.backend.backend_tables import Backend, backend_settings
from tests.conftest import free_port

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)


def _entry(tenant_id: UUID | None, resource_id: str = "row", **others: Any) -> AuditEntry:
    return AuditEntry(tenant_id, SYNC_TRIGGERED, "airbyte_connection", resource_id, "ada@example.com", NOW, **others)


def _journal(store: OpsStore, *entries: AuditEntry) -> None:
    with store.begin() as connection:
        for entry in entries:
            record(connection, entry)


def _deliver(store: OpsStore, dsn: str, now: datetime = NOW, limit: int = 1000, budget: float = 40) -> DeliveryReport:
    # Its seconds stand still: what a row was marked with is the moment that it was given.
    clock = TickClock(now, budget, seconds=lambda: 0)
    return deliver(Settings(backend=backend_settings(dsn)), store, clock, limit)


def _delivered(backend: Backend) -> set[object]:
    return {row[0] for row in backend.execute("select id from accounts_auditlog")}


def _column(store: OpsStore, name: str) -> list[object]:
    with store.begin() as connection:
        return list(connection.execute(sa.select(audit_entry.c[name]).order_by(audit_entry.c.created_at)).scalars())


ROLES: dict[str, Callable[[Backend], str]] = {
    "superuser": lambda backend: backend.dsn,
    "plain role": lambda backend: backend.role(),
    "bypassing role": lambda backend: backend.role("bypassrls"),
    "owner with forced security": lambda backend: backend.owner_role(forced=True),
}


@pytest.mark.parametrize("role", list(ROLES))
def test_owed_rows_of_many_tenants_reach_the_backend_as_they_were_journalled(
    backend: Backend, ops_store: OpsStore, role: str
) -> None:
    tenants = [backend.add_tenant("Acme"), backend.add_tenant("Globex")]
    entries = [_entry(tenant, detail={"job_id": 7}) for tenant in (*tenants, tenants[0])]
    _journal(ops_store, *entries)
    assert _deliver(ops_store, ROLES[role](backend), LATER) == DeliveryReport(delivered=3)
    rows = backend.execute(
        "select id, tenant_id, user_id, action, resource_type, resource_id, metadata, created_at from accounts_auditlog"
    )
    assert sorted(rows, key=str) == sorted(
        [
            (
                entry.id,
                entry.tenant_id,
                None,
                "airbyte_sync_triggered",
                "airbyte_connection",
                "row",
                {"job_id": 7, "actor": "ada@example.com"},
                NOW,
            )
            for entry in entries
        ],
        key=str,
    )
    assert _column(ops_store, "delivered_at") == [LATER] * 3
    assert _deliver(ops_store, "postgresql://nowhere") == DeliveryReport()


def test_an_act_that_is_rolled_back_leaves_no_row(ops_store: OpsStore) -> None:
    def fail_after_recording() -> None:
        with ops_store.begin() as connection:
            record(connection, _entry(uuid.uuid4()))
            raise ValueError("the act failed")

    with pytest.raises(ValueError, match="the act failed"):
        fail_after_recording()
    assert _column(ops_store, "id") == []


def test_the_same_entry_twice_is_one_row(ops_store: OpsStore) -> None:
    entry = _entry(uuid.uuid4())
    _journal(ops_store, entry, entry)
    _journal(ops_store, entry)
    assert _column(ops_store, "id") == [entry.id]


@pytest.mark.parametrize(("field", "longest"), [("action", 128), ("resource_type", 64), ("resource_id", 64)])
def test_an_entry_that_the_backends_columns_cannot_hold_is_refused_with_the_act(
    ops_store: OpsStore, field: str, longest: int
) -> None:
    values: dict[str, Any] = {"action": "a", "resource_type": "b", "resource_id": "c", field: "x" * (longest + 1)}
    entry = AuditEntry(tenant_id=None, actor="ada", created_at=NOW, **values)
    with pytest.raises(ValueError, match=f"{field} holds {longest} characters"):
        _journal(ops_store, entry)


def test_an_entry_of_no_tenant_stays_in_the_journal(backend: Backend, ops_store: OpsStore) -> None:
    _journal(ops_store, _entry(None))
    assert _deliver(ops_store, backend.dsn) == DeliveryReport()
    assert len(_column(ops_store, "id")) == 1


@pytest.mark.parametrize("source", list(RegistrySource))
def test_a_backend_that_is_down_is_owed_until_it_is_back(
    backend: Backend, ops_store: OpsStore, source: RegistrySource
) -> None:
    entry = _entry(backend.add_tenant("Acme"))
    _journal(ops_store, entry)
    down = backend_settings(f"postgresql://u:canary-secret@127.0.0.1:{free_port()}/x")
    settings = Settings(backend=down, registry=RegistrySettings(source=source))
    report = deliver(settings, ops_store, TickClock(NOW, 40))
    assert (report.delivered, report.owed) == (0, 1)
    assert report.error is not None
    assert "ADINSIGHTS_BACKEND__DSN" in report.error
    assert _column(ops_store, "last_error") == [report.error]
    assert "canary-secret" not in report.error
    assert _deliver(ops_store, backend.dsn).delivered == 1
    assert _delivered(backend) == {entry.id}
    assert _column(ops_store, "last_error") == [None]


def test_a_role_that_may_not_insert_owes_and_says_which_right_is_missing(backend: Backend, ops_store: OpsStore) -> None:
    _journal(ops_store, _entry(backend.add_tenant("Acme")))
    report = _deliver(ops_store, backend.role(granted=False))
    assert report.owed == 1
    assert "permission denied for table accounts_auditlog" in (report.error or "")


def test_a_deleted_tenants_rows_are_a_finding_and_block_nobody(backend: Backend, ops_store: OpsStore) -> None:
    gone, here = uuid.uuid4(), backend.add_tenant("Acme")
    lost, kept = [_entry(gone), _entry(gone)], _entry(here)
    _journal(ops_store, *lost, kept)
    assert _deliver(ops_store, backend.role()) == DeliveryReport(delivered=1, refused=2)
    assert _delivered(backend) == {kept.id}
    with ops_store.begin() as connection:
        (finding,) = open_findings(connection, "audit_undeliverable")
    assert finding.subject == f"tenant {gone}"
    assert "does not have this tenant" in finding.detail["reason"]
    assert set(finding.detail["entries"]) == {str(entry.id) for entry in lost}
    assert _deliver(ops_store, backend.dsn) == DeliveryReport()


def test_one_row_that_the_backend_cannot_hold_costs_no_other_row_of_its_tenant(
    backend: Backend, ops_store: OpsStore
) -> None:
    backend.execute("alter table accounts_auditlog alter column resource_id type varchar(8)")
    tenant = backend.add_tenant("Acme")
    entries = [_entry(tenant, "short"), _entry(tenant, "much too long"), _entry(tenant, "short")]
    _journal(ops_store, *entries)
    assert _deliver(ops_store, backend.role()) == DeliveryReport(delivered=2, refused=1)
    assert _delivered(backend) == {entries[0].id, entries[2].id}


def test_a_limit_takes_the_oldest_first_and_never_lets_failures_starve_the_rest(
    backend: Backend, ops_store: OpsStore
) -> None:
    tenant = backend.add_tenant("Acme")
    failed = [_entry(tenant) for _ in range(3)]
    _journal(ops_store, *failed)
    _deliver(ops_store, f"postgresql://u@127.0.0.1:{free_port()}/x")
    fresh = _entry(tenant)
    _journal(ops_store, fresh)
    assert _deliver(ops_store, backend.dsn, limit=1) == DeliveryReport(delivered=1, owed=3)
    assert _delivered(backend) == {fresh.id}
    assert _deliver(ops_store, backend.dsn, limit=2) == DeliveryReport(delivered=2, owed=1)


def test_a_process_that_dies_between_the_two_databases_delivers_each_row_once(
    backend: Backend, ops_store: OpsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [_entry(backend.add_tenant(name)) for name in ("Acme", "Globex")]
    _journal(ops_store, *entries)
    dsn = backend.role()

    def die(*_arguments: object, **_values: object) -> None:
        raise SystemExit("killed")

    with monkeypatch.context() as patched:
        patched.setattr(audit, "_mark", die)
        with pytest.raises(SystemExit):
            _deliver(ops_store, dsn)
    assert len(_delivered(backend)) == 1
    assert _column(ops_store, "delivered_at") == [None, None]
    assert _deliver(ops_store, dsn) == DeliveryReport(delivered=2)
    assert backend.execute("select count(*) from accounts_auditlog") == [(2,)]


def test_a_delivery_that_meets_another_one_leaves_it_the_work(backend: Backend, ops_store: OpsStore) -> None:
    _journal(ops_store, _entry(backend.add_tenant("Acme")))
    with ops_store.exclusive(audit.LOCK):
        assert _deliver(ops_store, backend.dsn) == DeliveryReport(busy=True)
    assert _delivered(backend) == set()


def test_no_row_is_written_under_another_tenant_than_its_own(backend: Backend, ops_store: OpsStore) -> None:
    acme, globex = backend.add_tenant("Acme"), backend.add_tenant("Globex")
    _journal(ops_store, _entry(acme, "of acme"), _entry(globex, "of globex"))
    dsn = backend.role()
    _deliver(ops_store, dsn)
    backend.execute(f"grant select on accounts_auditlog to {psycopg.conninfo.conninfo_to_dict(dsn)['user']}")
    with psycopg.connect(dsn) as connection:
        connection.execute("select set_config('app.tenant_id', %s, true)", (str(globex),))
        assert connection.execute("select resource_id from accounts_auditlog").fetchall() == [("of globex",)]


def test_a_manual_sync_is_audited_with_everything_that_finds_it_again() -> None:
    connection = Connection(
        row_id=UUID(int=1),
        tenant_id=UUID(int=2),
        provider=Provider.META,
        name="Meta Ads",
        connection_id=UUID(int=3),
        schedule=Schedule(ScheduleType.MANUAL),
        partition_key="acme/meta-ads-00000000",
    )
    entry = connection_entry(connection, SYNC_TRIGGERED, actor="ada", now=NOW, job_type="sync", job_id=7, run_id="r")
    assert (entry.tenant_id, entry.resource_type, entry.resource_id) == (
        UUID(int=2),
        "airbyte_connection",
        str(UUID(int=1)),
    )
    assert entry.detail == {
        "partition_key": "acme/meta-ads-00000000",
        "connection_id": str(UUID(int=3)),
        "job_type": "sync",
        "job_id": 7,
        "run_id": "r",
    }
