"""What exists, and what runs by itself, in every environment: the table, and the definitions that come of it."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import dagster as dg
import pytest

from adinsights_orchestration.alerting.gathering.dagster_events import BY_HAND, started_by_itself
from adinsights_orchestration.alerting.running.alerter import expected_automations
from adinsights_orchestration.build import build_monitoring, build_pipelines
from adinsights_orchestration.environments import UNATTENDED, Automation, Environment, Unattended
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.topology.read import read_topology
from adinsights_orchestration.transformation import manifest
from adinsights_orchestration.unattended import declared, schedule_status, sensor_status
from tests.environments.listing import assets, jobs_of, listing

SNAPSHOT = Path(__file__).with_name("snapshot.txt")
REWRITE = "ADINSIGHTS_REWRITE_SNAPSHOT"
HEADING = """\
What each environment holds, as Dagster loads it. Nobody edits this file: after a change that you mean,
{rewrite}=1 pytest tests/environments
writes it anew, and the difference is what a review looks at.
"""
PLACES = {
    "local, outside the stack (bare `dagster dev`)": (Environment.LOCAL, False),
    "local, inside the stack": (Environment.LOCAL, True),
    "staging": (Environment.STAGING, False),
    "production": (Environment.PRODUCTION, False),
}


@pytest.fixture(scope="module", autouse=True)
def prepared_manifest() -> None:
    """As an image has it: staging and production never parse the project."""
    manifest.prepare(Settings())


@cache
def repository(environment: Environment, stack: bool = False) -> dg.RepositoryDefinition:
    """Both locations of an environment."""
    settings = Settings(environment=environment, local_stack=stack)
    return dg.Definitions.merge(build_pipelines(settings), build_monitoring(settings)).get_repository_def()


def snapshot() -> str:
    """The whole text: what runs in each environment, and the assets, which are the same in all."""
    parts = [HEADING.format(rewrite=REWRITE)]
    parts += [f"== {place}\n\n{listing(repository(*where))}\n" for place, where in PLACES.items()]
    parts.append(f"== assets of every environment\n\n{assets(repository(Environment.PRODUCTION))}\n")
    return "\n".join(parts)


def test_every_environment_holds_what_the_snapshot_says_job_by_job() -> None:
    found = snapshot()
    if os.environ.get(REWRITE):
        SNAPSHOT.write_text(found, encoding="utf-8")
    assert found == SNAPSHOT.read_text(encoding="utf-8"), f"if you mean it, {REWRITE}=1 writes the snapshot anew"


def test_the_assets_are_the_same_in_every_environment() -> None:
    texts = {assets(repository(*where)) for where in PLACES.values()}
    assert len(texts) == 1


def test_the_table_says_for_every_environment_what_runs_there() -> None:
    assert set(UNATTENDED) == set(Environment)
    assert {name for table in UNATTENDED.values() for name in table} == set(Automation)


def test_only_the_local_stack_switches_automation_on_by_itself_in_the_local_environment() -> None:
    assert all(one.stack_only for one in UNATTENDED[Environment.LOCAL].values())
    for environment in (Environment.STAGING, Environment.PRODUCTION):
        assert not any(one.stack_only for one in UNATTENDED[environment].values())


@pytest.mark.parametrize("environment", Environment)
def test_what_is_declared_is_registered_once_and_what_is_not_does_not_exist(environment: Environment) -> None:
    found = repository(environment)
    sensors = [sensor.name for sensor in found.sensor_defs]
    schedules = [_automation_of(schedule) for schedule in found.schedule_defs]
    table = UNATTENDED[environment]
    assert sorted(sensors) == sorted(name for name, one in table.items() if one.every_seconds is not None)
    assert sorted(schedules) == sorted(name for name, one in table.items() if one.cron is not None)


def _automation_of(schedule: dg.ScheduleDefinition) -> str:
    # Dagster wants the names of jobs and schedules apart: the job has the automation's.
    assert schedule.name == Automation(schedule.job_name).schedule
    return schedule.job_name


@pytest.mark.parametrize("environment", Environment)
def test_alerting_looks_for_exactly_what_runs_by_itself_by_its_name_in_dagster(environment: Environment) -> None:
    watched = expected_automations(Settings(environment=environment, local_stack=environment is Environment.LOCAL))
    found = repository(environment, environment is Environment.LOCAL)
    assert set(watched) == _switched_on(found) - {Automation.ALERT_EVALUATE.value}
    for schedule in found.schedule_defs:
        one = watched[schedule.name]
        assert (one.cron, one.timezone) == (schedule.cron_schedule, schedule.execution_timezone)
    for sensor in found.sensor_defs:
        if sensor.name in watched:
            assert watched[sensor.name].every.total_seconds() >= (sensor.minimum_interval_seconds or 0)


@pytest.mark.parametrize("environment", Environment)
def test_schedules_run_when_the_table_says_in_the_home_timezone(environment: Environment) -> None:
    declared_crons = sorted(str(one.cron) for one in UNATTENDED[environment].values() if one.cron)
    schedules = repository(environment).schedule_defs
    assert sorted(str(schedule.cron_schedule) for schedule in schedules) == declared_crons
    assert {schedule.execution_timezone for schedule in schedules} == {"America/Jamaica"}


def _switched_on(found: dg.RepositoryDefinition) -> set[str]:
    sensors = {one.name for one in found.sensor_defs if one.default_status is dg.DefaultSensorStatus.RUNNING}
    return sensors | {one.name for one in found.schedule_defs if one.default_status is dg.DefaultScheduleStatus.RUNNING}


def _all(found: dg.RepositoryDefinition) -> set[str]:
    return {one.name for one in found.sensor_defs} | {one.name for one in found.schedule_defs}


def test_bare_dagster_dev_starts_nothing_and_everywhere_else_all_that_is_declared_runs() -> None:
    assert _switched_on(repository(Environment.LOCAL)) == set()
    for where in ((Environment.LOCAL, True), (Environment.STAGING, False), (Environment.PRODUCTION, False)):
        assert _switched_on(repository(*where)) == _all(repository(*where)) != set()


def test_staging_starts_syncs_at_night_only_and_production_all_day() -> None:
    staging, production = Settings(environment=Environment.STAGING), Settings(environment=Environment.PRODUCTION)
    assert declared(staging, Automation.TRIGGER) is None
    assert declared(production, Automation.SYNC_NIGHTLY) is declared(production, Automation.START) is None
    refresh = declared(production, Automation.DBT_REFRESH)
    assert refresh is not None
    assert refresh.every_seconds == 15 * 60


@pytest.mark.parametrize("environment", Environment)
def test_either_the_trigger_plans_syncs_or_the_night_does_and_something_starts_what_it_planned(
    environment: Environment,
) -> None:
    table = UNATTENDED[environment]
    by_itself, by_night = Automation.TRIGGER in table, Automation.SYNC_NIGHTLY in table
    assert by_itself is not by_night
    assert (Automation.START in table) is by_night


@pytest.mark.parametrize("environment", Environment)
def test_a_number_at_once_stands_exactly_where_something_is_started_that_can_be_counted(
    environment: Environment,
) -> None:
    jobs = {job.name for job in jobs_of(repository(environment))}
    starting = {Automation.TRIGGER, Automation.START}
    for automation, one in UNATTENDED[environment].items():
        assert (one.at_once is not None) is (automation in starting or automation.value in jobs), automation


def test_the_status_of_an_automation_follows_from_the_table_and_the_stack() -> None:
    stack_only = Unattended(every_seconds=1, stack_only=True)
    outside, inside = Settings(), Settings(local_stack=True)
    assert sensor_status(outside, stack_only) is dg.DefaultSensorStatus.STOPPED
    assert sensor_status(inside, stack_only) is dg.DefaultSensorStatus.RUNNING
    assert schedule_status(outside, stack_only) is dg.DefaultScheduleStatus.STOPPED
    assert schedule_status(outside, Unattended(cron="0 3 * * *")) is dg.DefaultScheduleStatus.RUNNING


@pytest.mark.parametrize(("seconds", "cron"), [(None, None), (60, "0 3 * * *")])
def test_an_automation_runs_by_interval_or_by_cron_and_never_by_both_or_neither(
    seconds: int | None, cron: str | None
) -> None:
    with pytest.raises(ValueError, match="either every so many seconds or by cron"):
        Unattended(every_seconds=seconds, cron=cron)


def _undescribed(found: dg.RepositoryDefinition) -> Iterator[str]:
    ops = {op.name: op.description for job in jobs_of(found) for op in job.all_node_defs if "dbt" not in op.name}
    named = [
        *((f"job {one.name}", one.description) for one in jobs_of(found)),
        *((f"sensor {one.name}", one.description) for one in found.sensor_defs),
        *((f"schedule {one.name}", one.description) for one in found.schedule_defs),
        *((f"op {name}", description) for name, description in ops.items()),
        *((f"check {key}", found.asset_graph.get(key).description) for key in _our_checks(found)),
    ]
    return (name for name, description in named if not (description or "").strip())


def _our_checks(found: dg.RepositoryDefinition) -> Iterator[dg.AssetCheckKey]:
    """Those of raw data; a dbt test is described in the project, where its name does not say it."""
    return (key for key in found.asset_graph.asset_check_keys if key.asset_key.path[0] in ("airbyte", "raw"))


@pytest.mark.parametrize("environment", Environment)
def test_every_job_op_schedule_sensor_and_check_says_what_it_is(environment: Environment) -> None:
    assert list(_undescribed(repository(environment))) == []


def test_every_asset_has_an_owner_a_group_a_kind_a_description_and_its_section_of_the_runbook() -> None:
    graph = repository(Environment.PRODUCTION).asset_graph
    lacking = {}
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        runbook = str(getattr(node.metadata.get("runbook"), "value", ""))
        has = {
            "owner": bool(node.owners),
            "group": bool(node.group_name) and node.group_name != "default",
            "kind": bool(node.kinds),
            "description": bool(node.description),
            "runbook": runbook.startswith(f"{Settings().runbook_url}#"),
        }
        if missing := [name for name, there in has.items() if not there]:
            lacking[key.to_user_string()] = missing
    assert lacking == {}


def test_every_link_to_the_runbook_leads_to_a_section_that_is_there() -> None:
    graph = repository(Environment.PRODUCTION).asset_graph
    links = (str(graph.get(key).metadata["runbook"].value) for key in graph.get_all_asset_keys())
    runbook = Path(__file__).parents[2] / "docs" / "runbook.md"
    headings = [
        line.lstrip("#").strip() for line in runbook.read_text(encoding="utf-8").splitlines() if line[:1] == "#"
    ]
    anchors = {_anchor(heading) for heading in headings}
    assert {link.rpartition("#")[2] for link in links} - anchors == set()


def _anchor(heading: str) -> str:
    kept = (letter for letter in heading.lower() if letter.isalnum() or letter in " -_")
    return "".join(kept).replace(" ", "-")


@pytest.mark.parametrize("environment", Environment)
def test_every_line_of_a_sensors_tick_is_tied_to_the_others(environment: Environment) -> None:
    for sensor in repository(environment).sensor_defs:
        function = sensor._raw_fn
        assert inspect.unwrap(function) is not function, f"{sensor.name} lacks `correlated`"


def test_alerting_forgets_failures_of_exactly_those_jobs_that_only_people_start() -> None:
    lines = re.findall(r"^job (\w+): started by people only", SNAPSHOT.read_text(), re.MULTILINE)
    assert set(lines) == BY_HAND


@pytest.mark.parametrize("environment", Environment)
def test_the_topology_says_of_every_job_whether_something_starts_it(environment: Environment) -> None:
    topology = read_topology(repository(environment), "pipelines")
    started = started_by_itself(topology)
    assert started is not None
    assert {job.name for job in topology.jobs} - started == BY_HAND
