"""The local stack's settings and seeds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from adinsights_orchestration.errors import ConfigurationError
from adinsights_orchestration.local import seed
from adinsights_orchestration.local.ad_platforms.world import World
from adinsights_orchestration.local.airbyte.connector_executor import declared_catalog
from adinsights_orchestration.local.airbyte.model import ConnectionStatus
from adinsights_orchestration.local.airbyte.world import AirbyteWorld
from adinsights_orchestration.local.environment import stack_environment
from adinsights_orchestration.local.settings import LocalSettings, load_local_settings
from adinsights_orchestration.settings import PROJECT_ROOT
from tests.local.airbyte_support import ManualClock


def test_every_setting_says_what_it_is() -> None:
    assert [name for name, field in LocalSettings.model_fields.items() if not field.description] == []


def test_the_environment_changes_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADINSIGHTS_LOCAL_SERVICE_PORT", "18123")
    monkeypatch.setenv("ADINSIGHTS_LOCAL_STATE_DIR", "elsewhere")
    settings = load_local_settings()
    assert (settings.service_port, settings.state_dir) == (18123, PROJECT_ROOT / "elsewhere")


def test_a_wrong_value_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADINSIGHTS_LOCAL_SERVICE_PORT", "99999")
    with pytest.raises(ConfigurationError, match="ADINSIGHTS_LOCAL_SERVICE_PORT"):
        load_local_settings()


def test_an_absolute_state_folder_stays_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ADINSIGHTS_LOCAL_STATE_DIR", str(tmp_path))
    assert load_local_settings().state_dir == tmp_path


def seeded(local: LocalSettings) -> AirbyteWorld:
    clock = ManualClock()
    world = AirbyteWorld(clock=clock)
    seed.seed_airbyte(world, World(clock=clock), local, declared_catalog)
    return world


def test_sources_sign_in_to_the_platforms_of_the_same_service() -> None:
    local = LocalSettings(service_port=18555, days=7)
    world, ads = seeded(local), World(clock=ManualClock())
    for connection in seed.connections():
        source = world.resources.source(connection.source_id)
        assert source.configuration["base_url"] == f"http://127.0.0.1:18555/ads/{connection.provider.value}"
        assert source.configuration["access_token"] == ads.access_token(connection.tenant, connection.provider)
        assert source.configuration["tenant_id"] == str(seed.tenant_id(connection.tenant))
        assert source.configuration["start_date"] == "2026-02-23"


def test_airbytes_own_schedules_are_off_unless_asked_for() -> None:
    kinds = [c.schedule.kind for c in seeded(LocalSettings()).resources.connections()]
    assert set(kinds) == {"manual"}
    own = seeded(LocalSettings(airbyte_schedules=True)).resources.connections()
    assert sorted(c.schedule.kind for c in own) == ["basic"] * 4 + ["cron"] * 3 + ["manual"]
    cron = next(c.schedule for c in own if c.schedule.kind == "cron")
    assert (cron.cron_expression, cron.cron_timezone) == ("0 0 6-22 * * ?", "America/Jamaica")


def test_seeding_again_keeps_what_was_changed() -> None:
    world = seeded(LocalSettings())
    first = world.resources.connections()[0]
    world.resources.put(replace(first, status=ConnectionStatus.INACTIVE))
    seed.seed_airbyte(world, World(clock=ManualClock()), LocalSettings(), declared_catalog)
    assert world.resources.connection(first.id).status is ConnectionStatus.INACTIVE
    assert len(world.resources.connections()) == 8


def test_the_stack_s_environment_gives_back_the_settings_that_it_was_made_of(monkeypatch: pytest.MonkeyPatch) -> None:
    local = LocalSettings(ui_port=3123, days=7, airbyte_schedules=True, sync_retry_seconds=0.5)
    variables = stack_environment(local)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert load_local_settings() == local
    assert "ADINSIGHTS_LOCAL_STATE_DIR" not in variables  # the default, which is another one in another clone
