"""Holds from the file to the rows: what a person wrote down is heeded, or nothing is deleted and it is said why."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from adinsights_orchestration.audit_log.retention.policy import RetentionRefusedError
from adinsights_orchestration.audit_log.retention.run import Retention
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from adinsights_orchestration.audit_log.table.clocks import ClockError
from adinsights_orchestration.clock import Clock, utc_now
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import RegistrySettings
from adinsights_orchestration.tenants.model import Registry
from adinsights_orchestration.tenants.refresh import refresh
from tests.audit_log.archived import NOW, TODAY, World, seal, settings_for
from tests.audit_log.rows import TABLE, Row, ids, insert, some_rows
from tests.backend.backend_tables import Backend

ACME, GLOBEX = (UUID(int=number) for number in (1, 2))
HELD = "tenants:\n  - {name: Acme, legal_hold: true}\n"
FIRST = TODAY - timedelta(days=400)


@dataclass
class _Night:
    """Two tenants whose archived rows are all past a year, and the file with what is known of them."""

    world: World
    backend: Backend
    file: Path
    rows: list[Row]

    def read(self, overlay: str | None = None, now: datetime = NOW) -> Registry:
        """A refresh of the registry, as the sensor makes one each minute."""
        if overlay is not None:
            self.file.write_text(overlay)
        report = refresh(self.world.settings, self.world.store, now)
        assert report.error is None
        return report.registry

    def run(self, host: Clock) -> Retention:
        world = self.world
        return Retention(world.settings, world.store, AUDIT_LOG, lambda: NOW, "a test", None, apply=True, host=host)

    def stay(self, *tenants: UUID) -> bool:
        return ids(self.world.backend) == {row.id for row in self.rows if row.tenant in tenants}


@pytest.fixture
def night(backend: Backend, ops_store: OpsStore, tmp_path: Path) -> _Night:
    for tenant, name in ((ACME, "Acme"), (GLOBEX, "Globex")):
        backend.add_tenant(name, tenant)
    file = tmp_path / "tenants.yaml"
    settings = settings_for(backend.dsn, ops_store._settings.dsn.get_secret_value())
    settings = settings.model_copy(update={"registry": RegistrySettings(overlay_path=file)})
    world = World(backend.dsn, ops_store, settings)
    rows = some_rows([ACME, GLOBEX], 3, 10, rng=random.Random(1), first=FIRST)
    insert(world.backend, rows)
    seal(settings, ops_store, [FIRST + timedelta(days=day) for day in range(3)])
    made = _Night(world, backend, file, rows)
    made.read(HELD)
    return made


def test_a_renamed_tenant_keeps_its_rows_and_nobody_loses_any_until_the_entry_names_it_again(night: _Night) -> None:
    night.backend.execute("update accounts_tenant set name = 'Acme Ltd' where id = %s", ACME)
    assert night.read().tenant(ACME).legal_hold
    with pytest.raises(RetentionRefusedError, match=r"tenants.yaml:2: no tenant is 'Acme'; name it by its id"):
        night.world.retain()
    assert night.stay(ACME, GLOBEX)
    night.read(f"tenants:\n  - {{id: {ACME}, legal_hold: true}}\n")
    assert night.world.retain().rows > 0
    assert night.stay(ACME)


@pytest.mark.parametrize("emptied", ["", "tenants: []\n", "tenants:\n  - {name: Acme, owner: team}\n"])
def test_an_emptied_file_ends_no_hold_and_keeps_nobody_elses_rows(night: _Night, emptied: str) -> None:
    night.read(emptied)
    assert night.world.retain().rows > 0
    assert night.stay(ACME)


def test_a_hold_that_is_lifted_in_writing_keeps_nothing(night: _Night) -> None:
    night.read("tenants:\n  - {name: Acme, legal_hold: false}\n")
    assert night.world.retain().rows == len(night.rows)
    assert night.stay()


def test_a_hold_that_never_meant_anybody_stops_every_deletion_and_no_sync(night: _Night) -> None:
    registry = night.read("tenants:\n  - {name: Globe, retention_days: 2555}\n")
    assert {each.name for each in registry.tenants} == {"Acme", "Globex"}  # served as ever
    for apply in (False, True):
        with pytest.raises(RetentionRefusedError, match=r"'Globe'.*`adinsights registry refresh`"):
            night.world.retain(apply=apply)
    assert night.stay(ACME, GLOBEX)


def test_an_entry_of_nobody_that_keeps_no_rows_stops_nothing(night: _Night) -> None:
    night.read(HELD + "  - {name: Gone, owner: team}\n")
    night.world.retain()
    assert night.stay(ACME)


def test_a_hold_on_a_tenant_of_whom_only_the_archive_knows_is_in_force(night: _Night) -> None:
    stranger = UUID(int=9)
    overlay = HELD + f"  - {{id: {stranger}, legal_hold: true}}\n"
    night.read(overlay)
    with pytest.raises(RetentionRefusedError, match=str(stranger)):
        night.world.retain()
    night.backend.add_tenant("Unread", stranger)  # it came, was archived and left between two reads
    insert(night.world.backend, some_rows([stranger], 1, 3, rng=random.Random(2), first=FIRST))
    seal(night.world.settings, night.world.store, [FIRST])
    night.backend.execute(f"delete from {TABLE} where tenant_id = %s", stranger)
    night.backend.execute("delete from accounts_tenant where id = %s", stranger)
    assert night.read().tenant(stranger).legal_hold
    night.world.retain()
    assert night.stay(ACME)


def test_a_registry_that_nobody_read_for_an_hour_is_not_deleted_by(night: _Night) -> None:
    night.file.write_text("tenants:\n  - {name: Globex, legal_hold: true}\n")  # which nothing reads
    late = NOW + timedelta(minutes=61)
    with pytest.raises(RetentionRefusedError, match=r"last read 61 minutes ago, and 60 may pass.*registry_refresh"):
        night.world.retain(now=late)
    assert night.stay(ACME, GLOBEX)
    night.read(now=late)
    night.world.retain(now=late + timedelta(minutes=60))
    assert night.stay(ACME, GLOBEX)


def test_for_how_long_a_registry_is_good_enough_is_a_setting(night: _Night) -> None:
    retention = night.world.settings.retention.model_copy(update={"registry_age_minutes": 5})
    night.world.settings = night.world.settings.model_copy(update={"retention": retention})
    with pytest.raises(RetentionRefusedError, match="5 may pass"):
        night.world.retain(now=NOW + timedelta(minutes=6))
    assert night.world.retain(now=NOW + timedelta(minutes=5)).rows > 0


@pytest.mark.parametrize("by", [timedelta(minutes=61), timedelta(minutes=-61), timedelta(days=400)])
def test_nothing_is_deleted_by_a_clock_that_the_server_does_not_share(night: _Night, by: timedelta) -> None:
    night.read("tenants: []\n")
    run = night.run(lambda: utc_now() + by)
    with pytest.raises(ClockError, match=r"this host's clock says .*, that of the ops store's server"):
        run.run()
    assert len(ids(night.world.backend)) == len(night.rows)
    assert night.run(lambda: utc_now() + timedelta(minutes=59)).run().rows > 0


def test_the_table_s_own_server_is_asked_too(night: _Night) -> None:
    """The ops store may lie on the very host whose clock is wrong."""
    night.read("tenants: []\n")
    moments = iter([utc_now(), utc_now() + timedelta(hours=2)])
    with pytest.raises(ClockError, match="that of the table's server"):
        night.run(lambda: next(moments)).run()
    assert len(ids(night.world.backend)) == len(night.rows)
