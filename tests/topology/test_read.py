"""What of a repository's definitions monitoring is told, for small ones and for the real pipelines location."""

from __future__ import annotations

import dagster as dg
import pytest

from adinsights_orchestration.build import build_pipelines
from adinsights_orchestration.environments import Environment
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.topology.model import Schedule, Sensor, Topology
from adinsights_orchestration.topology.read import read_topology
from adinsights_orchestration.transformation import manifest


@pytest.fixture(scope="module")
def pipelines() -> Topology:
    settings = Settings(environment=Environment.PRODUCTION)
    manifest.prepare(Settings())
    return read_topology(build_pipelines(settings).get_repository_def(), "pipelines")


def test_every_asset_of_the_pipelines_is_told_with_its_owner_group_and_runbook(pipelines: Topology) -> None:
    assert len(pipelines.assets) > 50
    lacking = [one.key for one in pipelines.assets if not (one.owners and one.group and one.runbook and one.summary)]
    assert lacking == []


def test_a_provider_s_asset_has_its_partitions_checks_and_kinds(pipelines: Topology) -> None:
    meta = pipelines.by_key["airbyte/meta"]
    assert (meta.partitions, meta.group, meta.external) == ("meta_connections", "ingestion", False)
    assert "sync" in meta.checks
    assert "airbyte" in meta.kinds
    assert "\n" not in meta.summary


def test_edges_lead_from_every_provider_through_dbt_to_a_dashboard(pipelines: Topology) -> None:
    reached = {one.key: pipelines.dashboards_of([one.key]) for one in pipelines.assets if one.partitions}
    assert len(reached) == 6
    assert all(reached.values())
    assert [one.title for one in reached["airbyte/ga4"]] == ["Web and search"]


def test_a_dashboard_names_its_place_and_the_providers_whose_figures_are_on_it(pipelines: Topology) -> None:
    dashboards = {one.key: one for one in pipelines.dashboards}
    assert dashboards["superset/web_and_search"].providers == ("ga4", "search_console")
    # Its marts hold Google Ads rows too, of which it shows none.
    assert dashboards["superset/creative_performance"].providers == ("linkedin_ads", "meta", "tiktok_ads")
    assert dashboards["superset/creative_performance"].path == "/superset/dashboard/creative-performance/"


def test_jobs_schedules_and_sensors_are_told_without_dagster_s_own(pipelines: Topology) -> None:
    assert "sync_connections" in {job.name for job in pipelines.jobs}
    assert not [job.name for job in pipelines.jobs if job.name.startswith("__")]
    assert "dbt_nightly" in {schedule.job for schedule in pipelines.schedules}
    assert "ingestion_observe" in {sensor.name for sensor in pipelines.sensors}


def test_reading_twice_gives_the_same_order_and_so_the_same_content() -> None:
    def repository(names: list[str]) -> dg.RepositoryDefinition:
        specs = [dg.AssetSpec(name, owners=["b@example.com", "a@example.com"]) for name in names]
        return dg.Definitions(assets=specs).get_repository_def()

    assert read_topology(repository(["a", "b", "c"]), "p") == read_topology(repository(["c", "a", "b"]), "p")


def test_what_an_asset_does_not_say_is_empty_and_a_dashboard_without_a_title_has_its_key() -> None:
    bare = read_topology(dg.Definitions(assets=[dg.AssetSpec("raw", kinds={"superset"})]).get_repository_def(), "p")
    assert bare.assets[0].external
    assert (bare.assets[0].summary, bare.assets[0].runbook, bare.assets[0].owners) == ("", None, ())
    assert (bare.dashboards[0].title, bare.dashboards[0].providers) == ("raw", ())


def test_checks_that_stand_apart_are_told_with_those_of_the_asset_itself() -> None:
    @dg.asset(check_specs=[dg.AssetCheckSpec("own", asset="a")])
    def a() -> dg.MaterializeResult:
        return dg.MaterializeResult(check_results=[dg.AssetCheckResult(passed=True)])

    @dg.asset_check(asset=a)
    def apart() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True)

    [asset] = read_topology(dg.Definitions(assets=[a], asset_checks=[apart]).get_repository_def(), "p").assets
    assert asset.checks == ("apart", "own")
    assert not asset.external


def test_a_schedule_says_when_and_a_sensor_how_often_and_what_it_may_start() -> None:
    @dg.job(description="Does it.\n\nIn detail.")
    def work() -> None: ...

    @dg.sensor(job=work, minimum_interval_seconds=45)
    def watch() -> None: ...

    schedule = dg.ScheduleDefinition(
        name="often", job=work, cron_schedule=["0 1 * * *", "0 5 * * *"], execution_timezone="America/Jamaica"
    )
    told = read_topology(dg.Definitions(jobs=[work], sensors=[watch], schedules=[schedule]).get_repository_def(), "p")
    assert [(job.name, job.summary) for job in told.jobs] == [("work", "Does it.")]
    assert told.sensors == (Sensor("watch", 45, ("work",)),)
    assert told.schedules == (Schedule("often", "work", "0 1 * * * | 0 5 * * *", "America/Jamaica"),)
