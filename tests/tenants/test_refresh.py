"""The refresh: new tenants appear, and nothing that goes wrong takes away what was served."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from adinsights_orchestration.errors import OpsStoreError
from adinsights_orchestration.ops_store.findings import open_findings
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import partition_connection, partition_key, registry_snapshot
from adinsights_orchestration.settings import IngestionSettings, OpsStoreSettings, RegistrySettings, Settings
from adinsights_orchestration.tenants import store as registry_store
from adinsights_orchestration.tenants.automation import summary
from adinsights_orchestration.tenants.model import Provider, Registry, Standing
from adinsights_orchestration.tenants.refresh import LOCK, RefreshReport, refresh
from adinsights_orchestration.tenants.store import (
    KEPT_SNAPSHOTS,
    NEVER_READ,
    frozen_keys,
    load_registry,
    registry_health,
)
from tests.backend.backend_tables import Backend, backend_settings
from tests.backend.silent_server import falling_silent
from tests.conftest import free_port
from tests.tenants.builders import ACME, GLOBEX, NOW

ROW = UUID("d0000000-0000-4000-8000-000000000004")
AIRBYTE_ID = UUID("1f0c2a9b-0000-4000-8000-000000000005")
KEY = "acme/meta-1f0c2a9b"


@dataclass
class _Platform:
    """A backend, an ops store, and a clock that goes on a minute with each refresh."""

    backend: Backend
    store: OpsStore
    overlay: Path
    minutes: int = 0
    dsn: str = ""
    budget_seconds: float = 40.0

    def settings(self) -> Settings:
        overlay = self.overlay if self.overlay.exists() else None
        return Settings(
            backend=backend_settings(self.dsn or self.backend.dsn),
            registry=RegistrySettings(overlay_path=overlay),
            ingestion=IngestionSettings(tick_budget_seconds=self.budget_seconds),
        )

    def refresh(self, *, accept_loss: bool = False) -> RefreshReport:
        self.minutes += 1
        now = NOW + timedelta(minutes=self.minutes)
        return refresh(self.settings(), self.store, now, accept_loss=accept_loss)

    def snapshots(self) -> int:
        with self.store.begin() as connection:
            return int(connection.execute(sa.select(sa.func.count()).select_from(registry_snapshot)).scalar_one())

    def findings(self) -> list[tuple[str, str]]:
        with self.store.begin() as connection:
            return [(each.kind, each.subject) for each in open_findings(connection)]

    def lose_the_backend(self) -> None:
        self.dsn = f"postgresql://u:canary-secret@127.0.0.1:{free_port()}/x"

    def find_the_backend(self) -> None:
        self.dsn = ""


@pytest.fixture
def platform(backend: Backend, ops_store: OpsStore, tmp_path: Path) -> _Platform:
    """One tenant with one connection, not read yet."""
    backend.add_tenant("Acme", ACME)
    backend.add_connection(ACME, "Meta", id=ROW, connection_id=AIRBYTE_ID)
    return _Platform(backend, ops_store, tmp_path / "tenants.yaml")


def _live(registry: Registry) -> set[str]:
    return {connection.partition_key for connection in registry.connections if not connection.retired}


def test_before_the_first_read_the_registry_is_empty_and_says_so(ops_store: OpsStore) -> None:
    assert load_registry(ops_store) is NEVER_READ
    health = registry_health(ops_store, NOW)
    assert (health.attempted_at, health.succeeded_at, health.age, health.error) == (None, None, None, None)


def test_the_first_read_gives_keys_and_serves_them_to_everybody(platform: _Platform) -> None:
    report = platform.refresh()
    assert report.changed
    assert report.new_partitions == {Provider.META: [KEY]}
    assert report.error is None
    other_process = OpsStore(platform.store._settings)
    for store in (platform.store, other_process):
        registry = load_registry(store)
        assert registry == report.registry
        assert registry.by_partition()[KEY].standing is Standing.ACTIVE
        assert registry.tenant(ACME).timezone == "America/Jamaica"
    other_process.dispose()


def test_a_new_tenant_and_a_new_connection_appear_with_the_next_read(platform: _Platform) -> None:
    platform.refresh()
    platform.backend.add_tenant("Globex", GLOBEX)
    platform.backend.add_connection(GLOBEX, "LinkedIn", provider="LINKEDIN", connection_id=UUID(int=7))
    platform.backend.add_connection(ACME, "Paused", is_active=False, connection_id=UUID(int=8 << 96))
    report = platform.refresh()
    assert report.new_partitions == {
        Provider.LINKEDIN_ADS: ["globex/linkedin-00000000"],
        Provider.META: ["acme/paused-00000008"],
    }
    assert load_registry(platform.store).by_partition()["acme/paused-00000008"].standing is Standing.PAUSED


def test_a_read_that_finds_nothing_new_only_says_when_it_looked(platform: _Platform) -> None:
    first = platform.refresh()
    second = platform.refresh()
    assert not second.changed
    assert second.new_partitions == {}
    assert second.registry.connections == first.registry.connections
    assert second.registry.read_at == first.registry.read_at + timedelta(minutes=1)
    assert load_registry(platform.store) == second.registry
    assert platform.snapshots() == 1


def test_names_may_change_and_keys_stay(platform: _Platform) -> None:
    platform.refresh()
    platform.backend.execute("update accounts_tenant set name = 'Globex'")
    platform.backend.execute("update integrations_airbyteconnection set name = 'Facebook'")
    report = platform.refresh()
    assert report.changed
    assert report.new_partitions == {}
    assert (report.registry.tenant(ACME).name, report.registry.tenant(ACME).slug) == ("Globex", "acme")
    assert report.registry.by_partition()[KEY].name == "Facebook"


def test_a_moved_connection_keeps_its_key(platform: _Platform) -> None:
    platform.refresh()
    platform.backend.add_tenant("Globex", GLOBEX)
    workspace = uuid.uuid4()
    platform.backend.execute(
        "update integrations_airbyteconnection set tenant_id = %s, workspace_id = %s", GLOBEX, workspace
    )
    moved = platform.refresh().registry.by_partition()[KEY]
    assert (moved.tenant_id, moved.workspace_id) == (GLOBEX, workspace)


def _keys_of_connections(platform: _Platform) -> Mapping[UUID, str]:
    with platform.store.begin() as connection:
        return frozen_keys(connection).connections


def test_a_connection_made_again_in_airbyte_keeps_its_key_and_both_ids_lead_to_it(platform: _Platform) -> None:
    platform.refresh()
    again = uuid.uuid4()
    platform.backend.execute("update integrations_airbyteconnection set connection_id = %s", again)
    report = platform.refresh()
    assert report.registry.by_partition()[KEY].connection_id == again
    assert _keys_of_connections(platform) == {AIRBYTE_ID: KEY, again: KEY}
    platform.backend.execute("delete from integrations_airbyteconnection")
    third = uuid.uuid4()
    platform.backend.add_connection(ACME, "Meta", connection_id=third)
    report = platform.refresh()
    assert _live(report.registry) == {KEY}
    assert _keys_of_connections(platform) == {AIRBYTE_ID: KEY, again: KEY, third: KEY}


def test_one_that_leaves_is_retired_and_one_that_returns_has_its_key_again(platform: _Platform) -> None:
    platform.backend.add_connection(ACME, "Other", connection_id=UUID(int=9))
    platform.refresh()
    platform.backend.execute("delete from integrations_airbyteconnection where id = %s", ROW)
    gone = platform.refresh()
    assert gone.retired == (KEY,)
    assert gone.registry.by_partition()[KEY].standing is Standing.RETIRED
    assert KEY not in gone.registry.partitions()[Provider.META]
    assert load_registry(platform.store) == gone.registry
    platform.backend.add_connection(ACME, "Meta", id=ROW, connection_id=AIRBYTE_ID)
    back = platform.refresh()
    assert (back.returned, back.retired, back.new_partitions) == ((KEY,), (), {})
    assert back.registry.by_partition()[KEY].standing is Standing.ACTIVE


def test_a_deleted_tenant_leaves_its_history_a_name(platform: _Platform) -> None:
    platform.backend.add_tenant("Globex", GLOBEX)
    platform.backend.add_connection(GLOBEX, "Meta")
    platform.refresh()
    platform.backend.execute("delete from accounts_tenant where id = %s", ACME)
    registry = platform.refresh().registry
    assert registry.tenant(ACME).retired
    assert registry.tenant(registry.by_partition()[KEY].tenant_id).name == "Acme"


def test_a_corrected_provider_moves_the_partition_under_its_key(platform: _Platform) -> None:
    platform.refresh()
    platform.backend.execute("update integrations_airbyteconnection set provider = 'GOOGLE'")
    report = platform.refresh()
    assert report.new_partitions == {Provider.GOOGLE_ADS: [KEY]}
    assert report.registry.partitions()[Provider.META] == ()


def test_an_unreachable_backend_changes_nothing_and_is_said_with_its_age(platform: _Platform) -> None:
    good = platform.refresh()
    platform.lose_the_backend()
    report = platform.refresh()
    assert report.registry.connections == good.registry.connections
    assert not report.changed
    assert report.error is not None
    assert "ADINSIGHTS_BACKEND__DSN" in report.error
    assert "canary-secret" not in report.error
    health = registry_health(platform.store, NOW + timedelta(minutes=31))
    assert (health.error, health.age) == (report.error, timedelta(minutes=30))
    assert platform.findings() == [("registry_unreadable", "backend")]
    platform.find_the_backend()
    assert platform.refresh().error is None
    assert registry_health(platform.store, NOW).error is None
    assert platform.findings() == []


def test_a_backend_that_was_never_reached_leaves_an_empty_registry_with_a_reason(platform: _Platform) -> None:
    platform.lose_the_backend()
    report = platform.refresh()
    assert (report.registry, report.changed) == (NEVER_READ, False)
    assert registry_health(platform.store, NOW).succeeded_at is None
    assert load_registry(platform.store) is NEVER_READ


def test_a_broken_overlay_changes_nothing_until_it_is_mended(platform: _Platform) -> None:
    platform.overlay.write_text("tenants:\n  - name: Acme\n    timezone: Europe/London\n    retention_days: 400\n")
    platform.refresh()
    platform.overlay.write_text("tenants:\n  - name: Acme\n    retention_days: 30\n")
    broken = platform.refresh()
    assert broken.error is not None
    assert broken.error.startswith("tenants.yaml:3: retention_days is 30")
    assert broken.registry.tenant(ACME).retention_days == 400
    platform.overlay.write_text("tenants:\n  - name: Acme\n    retention_days: 500\n")
    assert platform.refresh().registry.tenant(ACME).retention_days == 500


@pytest.mark.parametrize("emptied", ["delete from accounts_tenant", "delete from integrations_airbyteconnection"])
def test_a_source_that_is_suddenly_empty_is_not_believed_until_a_person_confirms_it(
    platform: _Platform, emptied: str
) -> None:
    good = platform.refresh()
    platform.backend.execute(emptied)
    for _ in range(2):
        report = platform.refresh()
        assert report.error is not None
        assert "suddenly has no" in report.error
        assert "--accept-loss" in report.error
        assert _live(report.registry) == _live(good.registry) == _live(load_registry(platform.store))
        assert platform.findings() == [("registry_shrunk", "backend")]
    confirmed = platform.refresh(accept_loss=True)
    assert (confirmed.retired, confirmed.error) == ((KEY,), None)
    assert ("registry_shrunk", "backend") not in platform.findings()
    assert platform.refresh().error is None


@pytest.mark.timeout(180)
def test_a_backend_that_falls_silent_is_hung_up_on_and_keeps_no_later_refresh_waiting(platform: _Platform) -> None:
    served = platform.refresh()
    platform.budget_seconds = 1.0
    with falling_silent(platform.backend.dsn, b"from accounts_tenant") as dsn:
        platform.dsn = dsn
        report = platform.refresh()
    assert "ADINSIGHTS_BACKEND__DSN" in (report.error or "")
    assert _live(report.registry) == _live(served.registry)
    platform.dsn, platform.budget_seconds = "", 40.0
    assert (platform.refresh().busy, platform.refresh().error) == (False, None)


def test_a_tick_that_finds_another_refresh_under_way_says_so(platform: _Platform) -> None:
    platform.refresh()
    with platform.store.exclusive(LOCK):
        assert summary(platform.refresh(), []) == (
            "1 tenants, 1 connections; not read: another refresh is under way, or waits for a source that is slow"
        )
    assert summary(platform.refresh(), []) == "1 tenants, 1 connections"


def test_a_table_whose_policy_hides_every_row_does_not_retire_anybody(platform: _Platform) -> None:
    platform.refresh()
    platform.dsn = platform.backend.role()
    platform.backend.execute("create policy nothing on integrations_airbyteconnection as restrictive using (false)")
    report = platform.refresh()
    assert report.error is not None
    assert _live(report.registry) == {KEY}


def test_what_a_person_must_mend_is_a_finding_until_it_is_mended(platform: _Platform) -> None:
    row = platform.backend.add_connection(ACME, "Broken", schedule_type="cron", cron_expression="61 * * * *")
    platform.backend.add_tenant("Lonely", GLOBEX)
    report = platform.refresh()
    subjects = {f"accounts_tenant {GLOBEX}", f"integrations_airbyteconnection {row}"}
    assert {problem.place for problem in report.registry.problems} == subjects
    assert set(platform.findings()) == {("registry_problem", subject) for subject in subjects}
    assert {problem.place for problem in registry_health(platform.store, NOW).problems} == subjects
    platform.backend.execute(
        "update integrations_airbyteconnection set cron_expression = '0 6 * * *' where id = %s", row
    )
    platform.refresh()
    assert platform.findings() == [("registry_problem", f"accounts_tenant {GLOBEX}")]


def test_a_comment_in_the_overlay_is_no_new_snapshot(platform: _Platform) -> None:
    platform.overlay.write_text("tenants: []\n")
    platform.refresh()
    platform.overlay.write_text("tenants: []  # nobody yet\n")
    assert not platform.refresh().changed
    assert platform.snapshots() == 1


def test_old_snapshots_are_forgotten_and_the_served_one_never(platform: _Platform) -> None:
    platform.refresh()
    for number in range(KEPT_SNAPSHOTS + 5):
        platform.backend.execute("update integrations_airbyteconnection set name = %s", f"Name {number}")
        platform.refresh()
    assert platform.snapshots() == KEPT_SNAPSHOTS
    assert load_registry(platform.store).by_partition()[KEY].name == f"Name {KEPT_SNAPSHOTS + 4}"


def test_a_refresh_that_meets_another_one_leaves_it_the_work(platform: _Platform) -> None:
    platform.refresh()
    with platform.store.exclusive(LOCK):
        report = platform.refresh()
    assert report.busy
    assert report.error is None
    assert _live(report.registry) == {KEY}


def test_many_refreshes_at_once_give_every_connection_one_key(platform: _Platform) -> None:
    for number in range(20):
        platform.backend.add_connection(ACME, "Same name", connection_id=UUID(int=(5 << 96) + number))
    threads = [threading.Thread(target=platform.refresh) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    registry = platform.refresh().registry
    assert len(_live(registry)) == 21
    with platform.store.begin() as connection:
        for table in (partition_key, partition_connection):
            assert connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one() == 21


_STEPS: list[Callable[[_Platform], object]] = [
    lambda p: p.backend.execute("update accounts_tenant set name = name || ' Ltd'"),
    lambda p: p.backend.execute("update integrations_airbyteconnection set connection_id = gen_random_uuid()"),
    lambda p: p.backend.execute("delete from integrations_airbyteconnection where name = 'Other'"),
    lambda p: p.backend.add_connection(ACME, "Other"),
]


def test_a_process_that_dies_while_writing_leaves_the_registry_as_it_was_and_the_next_one_finishes(
    platform: _Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.backend.add_connection(ACME, "Other")
    before = _live(platform.refresh().registry)
    for step in _STEPS:
        served = load_registry(platform.store)
        step(platform)
        for writer in ("write_keys", "write_snapshot", "write_success"):
            with monkeypatch.context() as patched:
                patched.setattr(registry_store, writer, _die)
                with pytest.raises(SystemExit):
                    platform.refresh()
            assert load_registry(OpsStore(platform.store._settings)) == served
        platform.refresh()
    assert _live(platform.refresh().registry) == before


def _die(*_arguments: object) -> None:
    raise SystemExit("killed")


def test_an_ops_store_that_is_down_is_the_callers_to_handle(platform: _Platform) -> None:
    dsn = SecretStr(f"postgresql://u:p@127.0.0.1:{free_port()}/x")
    with pytest.raises(OpsStoreError):
        refresh(platform.settings(), OpsStore(OpsStoreSettings(dsn=dsn)), NOW)
