"""What the doctor can tell without any server."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from adinsights_orchestration.cli.settings_page import setting_rows
from adinsights_orchestration.doctor.airbyte_facts import AirbyteFacts
from adinsights_orchestration.doctor.checks import airbyte, backend, dagster, dbt, drivers, health, machine
from adinsights_orchestration.doctor.model import Status
from adinsights_orchestration.doctor.world import Once, World
from adinsights_orchestration.environments import Environment
from adinsights_orchestration.settings import Settings, WebhookSender, load_settings

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def world(environment: dict[str, str] | None = None, **settings: object) -> World:
    return World(Settings().model_copy(update=settings), environment or {}, NOW)


def world_with_airbyte(facts: AirbyteFacts, **settings: object) -> World:
    made = world({}, **settings)
    made.airbyte = Once(lambda: facts)
    return made


def airbyte_that(clock_ahead: float | None = 0.0, workspaces: dict[str, dict[str, Any]] | None = None) -> AirbyteFacts:
    return AirbyteFacts(workspaces or {}, (), True, clock_ahead)


def test_this_interpreter_and_its_packages_are_the_pinned_ones() -> None:
    assert machine.python(world()).status is Status.OK
    assert machine.dependencies(world()).status is Status.OK


def test_a_misspelt_variable_is_named_with_the_one_that_was_meant() -> None:
    verdict = machine.variables(world({"ADINSIGHTS_AIRBYTE__CLIENT_SECRTE": "canary", "ADINSIGHTS_LOG__LEVEL": "INFO"}))
    assert verdict.status is Status.WARN
    assert "ADINSIGHTS_AIRBYTE__CLIENT_SECRTE" in verdict.detail
    assert verdict.next_step == "Did you mean ADINSIGHTS_AIRBYTE__CLIENT_SECRET?"
    assert "canary" not in verdict.detail


def test_variables_of_the_local_stack_and_of_others_are_none_of_its_business() -> None:
    environment = {"ADINSIGHTS_LOCAL_UI_PORT": "3001", "ADINSIGHTS_ENV_FILE": "x", "HOME": "/root"}
    assert machine.variables(world(environment)).status is Status.OK


def test_production_on_the_local_stacks_defaults_is_a_failure() -> None:
    verdict = machine.local_defaults(_in(Environment.PRODUCTION))
    assert verdict.status is Status.FAIL
    assert "ADINSIGHTS_OPS_STORE__DSN" in verdict.detail
    assert "adinsights-local" not in verdict.detail
    assert machine.local_defaults(_in(Environment.LOCAL)).status is Status.OK


OF_THE_LOCAL_STACK = {
    "ADINSIGHTS_OPS_STORE__DSN": "postgresql://a:b@db.example.com/dagster",
    "ADINSIGHTS_BACKEND__DSN": "postgresql://a:b@db.example.com/backend",
    "ADINSIGHTS_BACKEND__URL": "https://api.example.com",
    "ADINSIGHTS_AIRBYTE__PUBLIC_API_URL": "https://airbyte.example.com/api/public/v1",
    "ADINSIGHTS_AIRBYTE__CONFIG_API_URL": "https://airbyte.example.com/api/v1",
    "ADINSIGHTS_AIRBYTE__UI_URL": "https://airbyte.example.com",
    "ADINSIGHTS_WAREHOUSE__HOST": "warehouse.example.com",
    "ADINSIGHTS_WAREHOUSE__PASSWORD": "another",
    "ADINSIGHTS_DBT__RUN_RESULTS_PATH": "/var/lib/adinsights/published/run_results.json",
    "ADINSIGHTS_DAGSTER__UI_URL": "https://dagster.example.com",
    "ADINSIGHTS_AUDIT_LOG__ARCHIVE_URL": "s3://archive/production",
}


def test_what_leads_to_the_local_stack_is_known_in_full() -> None:
    """Whoever adds a setting whose default is of this machine adds what stands in its place elsewhere."""
    found = {row.variable for row in setting_rows() if machine.of_the_local_stack(row.default)}
    assert found == set(OF_THE_LOCAL_STACK)


@pytest.mark.parametrize("environment", [Environment.STAGING, Environment.PRODUCTION])
@pytest.mark.parametrize("left", OF_THE_LOCAL_STACK)
def test_each_local_default_that_is_left_elsewhere_is_named_alone(
    left: str, environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADINSIGHTS_ENVIRONMENT", environment.value)
    for variable, value in OF_THE_LOCAL_STACK.items():
        monkeypatch.setenv(variable, value)
    assert machine.local_defaults(World(load_settings(), {}, NOW)).status is Status.OK
    monkeypatch.delenv(left)
    verdict = machine.local_defaults(World(load_settings(), {}, NOW))
    assert verdict.status is Status.FAIL
    assert verdict.detail == f"{environment} still has the local stack's default for {left}"


def test_a_machine_without_the_data_of_timezones_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.timezones(world()).status is Status.OK
    monkeypatch.setattr(machine, "_SAMPLE_TIMEZONES", ("Atlantis/Poseidonis",))
    verdict = machine.timezones(world())
    assert verdict.status is Status.FAIL
    assert "no data for the timezone Atlantis/Poseidonis" in verdict.detail


def test_the_fullest_place_decides_about_disk_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = machine.disk(world({"DAGSTER_HOME": str(tmp_path / "not" / "yet")}))
    assert verdict.status in (Status.OK, Status.WARN)
    monkeypatch.setattr(machine, "_LOW_BYTES", 1 << 60)
    assert machine.disk(world()).status is Status.WARN
    monkeypatch.setattr(machine, "_NO_BYTES", 1 << 60)
    assert machine.disk(world()).status is Status.FAIL


@pytest.mark.parametrize(
    ("ahead", "status"),
    [(0.0, Status.OK), (-4.0, Status.OK), (70.0, Status.WARN), (-130.0, Status.FAIL), (None, Status.SKIPPED)],
)
def test_a_clock_that_is_off_is_judged_by_what_observation_reads_back(ahead: float | None, status: Status) -> None:
    assert airbyte.clock(world_with_airbyte(airbyte_that(ahead))).status is status


def test_a_workspace_that_notifies_the_backend_beside_us_is_two_senders() -> None:
    url = "https://api.example.com"
    hook = {"enabled": True, "url": f"{url}/api/airbyte/webhook/"}
    workspaces: dict[str, dict[str, Any]] = {
        "w": {"name": "ADinsights", "notifications": {"success": {"webhook": hook}}}
    }
    settings = Settings()
    values = {
        "backend": settings.backend.model_copy(update={"url": url}),
        "webhook": settings.webhook.model_copy(update={"sender": WebhookSender.ORCHESTRATOR}),
    }
    verdict = drivers.webhook_senders(world_with_airbyte(airbyte_that(workspaces=workspaces), **values))
    assert verdict.status is Status.WARN
    hook["url"] = "https://hooks.elsewhere.example/x"
    assert (
        drivers.webhook_senders(world_with_airbyte(airbyte_that(workspaces=workspaces), **values)).status is Status.OK
    )


def test_credentials_without_a_workspace_are_a_warning() -> None:
    assert airbyte.public_api(world_with_airbyte(airbyte_that())).status is Status.WARN


# --------------------------------------------------------------------------------------------------------- dagster


def test_a_missing_dagster_home_or_configuration_is_told_apart(tmp_path: Path) -> None:
    assert dagster.home(world()).status is Status.WARN
    assert dagster.home(world({"DAGSTER_HOME": str(tmp_path)})).status is Status.FAIL


def test_variables_that_dagsters_configuration_needs_are_named(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text("storage: {postgres: {postgres_db: {password: {env: DAGSTER_PG_PASSWORD}}}}")
    verdict = dagster.home(world({"DAGSTER_HOME": str(tmp_path)}))
    assert verdict.status is Status.FAIL
    assert "DAGSTER_PG_PASSWORD" in verdict.detail
    assert dagster.home(world({"DAGSTER_HOME": str(tmp_path), "DAGSTER_PG_PASSWORD": "x"})).status is Status.OK


def test_storage_that_does_not_answer_is_said_without_its_password() -> None:
    environment = {
        "DAGSTER_HOME": "/nowhere",
        "DAGSTER_PG_HOST": "127.0.0.1",
        "DAGSTER_PG_PORT": "9",
        "DAGSTER_PG_USER": "dagster",
        "DAGSTER_PG_PASSWORD": "canary-dagster-password",
        "DAGSTER_PG_DB": "dagster",
    }
    verdict = dagster.storage(world(environment))
    assert verdict.status is Status.FAIL
    assert "refused" in verdict.detail
    assert "canary" not in verdict.detail
    assert dagster.daemons(world(environment)).status is Status.SKIPPED


def test_an_instance_without_daemons_is_a_failure_that_says_what_to_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    environment = {"DAGSTER_HOME": str(tmp_path)}
    assert dagster.storage(world(environment)).status is Status.OK
    verdict = dagster.daemons(world(environment))
    assert verdict.status is Status.FAIL
    assert "dagster-daemon run" in verdict.next_step


def test_nothing_at_the_uis_address_is_a_failure_and_leaves_the_locations_untold() -> None:
    settings = Settings()
    nowhere = world(dagster=settings.dagster.model_copy(update={"ui_url": "http://127.0.0.1:9"}))
    assert dagster.ui(nowhere).status is Status.FAIL
    assert dagster.locations(nowhere).status is Status.SKIPPED


# ------------------------------------------------------------------------------------------------------------- dbt


def test_a_folder_without_a_dbt_project_is_a_failure(tmp_path: Path) -> None:
    settings = Settings()
    nowhere = world(dbt=settings.dbt.model_copy(update={"project_dir": tmp_path}))
    assert dbt.project(nowhere).status is Status.FAIL
    assert dbt.project(world()).status is Status.OK


def test_a_missing_manifest_stops_production_and_only_delays_a_laptop(tmp_path: Path) -> None:
    empty = Settings().dbt.model_copy(update={"project_dir": tmp_path})
    assert dbt.manifest(world(dbt=empty)).status is Status.WARN
    in_production = Settings().model_copy(update={"dbt": empty, "environment": Environment.PRODUCTION})
    assert dbt.manifest(World(in_production, {}, NOW)).status is Status.FAIL


@pytest.mark.parametrize(
    ("content", "status"),
    [(None, Status.OK), ('{"metadata": {"generated_at": "2026-11-23T11:00:00Z"}}', Status.OK), ("<html>", Status.FAIL)],
)
def test_what_stands_at_the_run_results_path_is_looked_at(tmp_path: Path, content: str | None, status: Status) -> None:
    path = tmp_path / "published" / "run_results.json"
    if content is not None:
        path.parent.mkdir()
        path.write_text(content)
    here = world(dbt=Settings().dbt.model_copy(update={"run_results_path": path}))
    assert backend.run_results(here).status is status


def _in(environment: Environment) -> World:
    return World(Settings().model_copy(update={"environment": environment}), {}, NOW)


def test_no_secret_setting_shows_in_any_verdict_about_this_machine() -> None:
    canary = SecretStr("canary-everywhere")
    settings = Settings()
    seeded = settings.model_copy(
        update={
            "environment": Environment.PRODUCTION,
            "ops_store": settings.ops_store.model_copy(update={"dsn": canary}),
            "warehouse": settings.warehouse.model_copy(update={"password": canary}),
        }
    )
    looked = [machine.local_defaults, machine.variables, machine.disk, machine.dependencies, backend.run_results]
    here = World(seeded, {"ADINSIGHTS_OPS_STORE__DSN": "canary-everywhere"}, NOW)
    assert "canary" not in str([look(here) for look in looked])


def test_a_component_that_is_not_watched_is_named_with_its_variable_and_is_no_failure() -> None:
    verdict = health.watched(world())
    assert verdict.status is Status.OK
    assert "superset (ADINSIGHTS_HEALTH__SUPERSET_URL)" in verdict.detail
    watched = Settings().health.model_copy(update={"superset_url": "http://superset.example"})
    assert "superset" not in health.watched(world(health=watched)).detail
