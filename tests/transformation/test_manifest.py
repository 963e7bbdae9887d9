"""Preparing and loading the manifest: once, again when the project changed, an error where nothing may change it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from pydantic import SecretStr

from adinsights_orchestration.environments import Environment
from adinsights_orchestration.errors import ConfigurationError
from adinsights_orchestration.settings import Settings, WarehouseSettings
from adinsights_orchestration.tenants.model import Provider
from adinsights_orchestration.transformation import manifest
from tests.transformation.support import FIXTURE_PROJECT, copy_project, make_settings

UNUSED = SecretStr("postgresql://unused")


@pytest.fixture
def prepared(project_dir: Path, warehouse_settings: WarehouseSettings, tmp_path: Path) -> Settings:
    """Settings of a prepared project; nothing here needs the ops store."""
    return make_settings(project_dir, warehouse_settings, UNUSED, tmp_path)


def _in(environment: Environment, settings: Settings, **dbt: object) -> Settings:
    changed = settings.dbt.model_copy(update=dbt)
    return settings.model_copy(update={"environment": environment, "dbt": changed})


def _runs(settings: Settings) -> int:
    return len(list((settings.dbt.project_dir / "target").glob("runs/parse-*")))


def test_a_prepared_project_is_loaded_without_dbt(prepared: Settings) -> None:
    assert manifest.load(prepared).name == "fixture"
    assert _runs(prepared) == 0


@pytest.mark.parametrize("environment", [Environment.STAGING, Environment.PRODUCTION])
def test_outside_a_laptop_a_missing_manifest_is_an_error_with_the_command_that_makes_it(
    environment: Environment, warehouse_settings: WarehouseSettings, tmp_path: Path
) -> None:
    project_dir = copy_project(FIXTURE_PROJECT, tmp_path / "project")
    settings = make_settings(project_dir, warehouse_settings, UNUSED, tmp_path, environment=environment)
    with pytest.raises(ConfigurationError, match=r"no prepared dbt manifest.*adinsights dbt prepare"):
        manifest.load(settings)


def test_outside_a_laptop_an_outdated_manifest_is_an_error(prepared: Settings) -> None:
    (prepared.dbt.project_dir / "models" / "marts" / "new.sql").write_text("select 1 as one")
    with pytest.raises(ConfigurationError, match="prepared from other files or settings"):
        manifest.load(_in(Environment.PRODUCTION, prepared))


def test_a_manifest_of_other_providers_or_another_schema_is_outdated(prepared: Settings) -> None:
    assert manifest.staleness(prepared) is None
    assert manifest.staleness(_in(Environment.LOCAL, prepared, enabled_providers=(Provider.META,))) is not None
    assert manifest.staleness(_in(Environment.LOCAL, prepared, schema_="other")) is not None


def test_what_dbt_and_editors_leave_behind_does_not_make_a_manifest_outdated(prepared: Settings) -> None:
    project_dir = prepared.dbt.project_dir
    (project_dir / "logs").mkdir()
    for name in ("target/manifest.json", "target/run_results.json", "logs/dbt.log", "models/.fct_spend.sql.swp"):
        (project_dir / name).write_text("anything")
    assert manifest.staleness(prepared) is None


def test_on_a_laptop_a_changed_project_is_parsed_again_by_one_of_all_who_load_it(prepared: Settings) -> None:
    (prepared.dbt.project_dir / "models" / "marts" / "new.sql").write_text("select 1 as one")
    found: list[bool] = []
    threads = [
        threading.Thread(target=lambda: found.append("model.fixture.new" in manifest.load(prepared).nodes))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True, True, True]
    assert _runs(prepared) == 1
    assert (prepared.dbt.project_dir / "target" / "manifest.json").exists()


def test_a_project_that_does_not_parse_is_an_error_in_dbt_s_words_and_stays_outdated(prepared: Settings) -> None:
    (prepared.dbt.project_dir / "models" / "marts" / "bad.sql").write_text("select * from {{ ref('nowhere') }}")
    with pytest.raises(ConfigurationError, match="nowhere"):
        manifest.load(prepared)
    assert manifest.staleness(prepared) is not None


def test_a_preparation_that_was_killed_halfway_counts_as_none(prepared: Settings) -> None:
    (prepared.dbt.project_dir / "target" / "prepared" / "digest").unlink()
    assert manifest.staleness(prepared) == "there is no prepared dbt manifest"
