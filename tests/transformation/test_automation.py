"""The sensor and the schedule on a real Dagster instance and a real ops store; builds are ended by hand here."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from adinsights_orchestration.dagster_internals.events import Materialized, report_materializations
from adinsights_orchestration.environments import Environment
from adinsights_orchestration.errors import OpsStoreError
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import cursor, dbt_invocation, dbt_model_result
from adinsights_orchestration.ops_store.taken_out import note_taken_out
from adinsights_orchestration.settings import OpsStoreSettings, Settings
from adinsights_orchestration.tenants.model import Provider
from adinsights_orchestration.transformation.automation import BUILD_TAG
from adinsights_orchestration.transformation.definitions import build_transformation
from adinsights_orchestration.transformation.invocations import coverage, record_end
from adinsights_orchestration.transformation.newest import newest_states
from adinsights_orchestration.transformation.project import Project
from adinsights_orchestration.transformation.turn import BUILD_LOCK
from tests.conftest import free_port
from tests.transformation.test_invocations import ended
from tests.transformation.test_run_results import result

META, GOOGLE = Provider.META, Provider.GOOGLE_ADS


class Lab:
    """A sensor, what it sees, and a clock."""

    def __init__(self, settings: Settings, store: OpsStore, project: Project, instance: dg.DagsterInstance) -> None:
        self.store, self.project, self.instance = store, project, instance
        self.now = datetime(2026, 1, 1, 12, tzinfo=UTC)
        self.defs = build_transformation(settings, store, clock=lambda: self.now)
        self.sensor = self.defs.get_repository_def().get_sensor_def("dbt_refresh")
        self.cursor: str | None = None
        self.skipped: str | None = None
        self.minute = 0

    def sync(self, provider: Provider, partition: str = "acme/one") -> None:
        """A finished sync, as ingestion reports it."""
        report_materializations(
            self.instance, dg.AssetKey(provider.asset_path), [Materialized(partition, self.now, {"airbyte/job_id": 1})]
        )

    def look(self, later: timedelta = timedelta(minutes=1)) -> dg.RunRequest | None:
        """One tick, as the daemon makes it; the cursor is kept as the daemon keeps it."""
        self.now += later
        with dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, definitions=self.defs, sensor_name="dbt_refresh"
        ) as context:
            tick = self.sensor.evaluate_tick(context)
        self.cursor = tick.cursor or self.cursor
        self.skipped = tick.skip_message
        assert len(tick.run_requests or []) <= 1
        return tick.run_requests[0] if tick.run_requests else None

    def newest(self) -> dict[Provider, int]:
        """What a build would see if it began now."""
        return newest_states(self.instance, self.store, self.project.providers)

    def end_build(self, covered: dict[Provider, int], *nodes: str) -> None:
        """A build that ended and brought these positions into the marts."""
        self.minute += 1
        results = [result(node) for node in (nodes or self.project.nodes)]
        record_end(self.store, ended(*results, minute=self.minute, covered=covered), self.project.nodes.keys())


def _names(request: dg.RunRequest | None) -> set[str]:
    assert request is not None
    return {key.path[-1] for key in request.asset_selection or ()}


def _add_run(instance: dg.DagsterInstance, status: dg.DagsterRunStatus) -> None:
    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("pipelines"), "__repository__")
    run = dg.DagsterRun(
        job_name="dbt_nightly",
        run_id=str(uuid.uuid4()),
        status=status,
        tags=BUILD_TAG,
        remote_job_origin=RemoteJobOrigin(repository, "dbt_nightly"),
    )
    instance.run_storage.add_run(run)


def requested_job(defs: dg.Definitions, request: dg.RunRequest) -> dg.JobDefinition:
    """The part of the job that the request asks for, as the daemon makes it."""
    return defs.resolve_job_def("dbt_refresh").get_subset(
        asset_selection=set(request.asset_selection or ()), asset_check_selection=set(request.asset_check_keys or ())
    )


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance of this test's own."""
    with dg.DagsterInstance.ephemeral() as found:
        yield found


@pytest.fixture
def production(settings: Settings) -> Settings:
    """The environment that refreshes every 15 minutes."""
    return settings.model_copy(update={"environment": Environment.PRODUCTION})


@pytest.fixture
def lab(production: Settings, ops_store: OpsStore, project: Project, instance: dg.DagsterInstance) -> Lab:
    """A sensor in front of an empty event log and an empty ops store."""
    return Lab(production, ops_store, project, instance)


def test_without_a_sync_nothing_is_built(lab: Lab) -> None:
    assert lab.look() is None
    assert lab.skipped == "The marts hold everything that was synced."


def test_the_first_build_takes_everything_because_nothing_was_built_yet(lab: Lab) -> None:
    lab.sync(META)
    assert _names(lab.look()) == {uid.split(".")[2] for uid in lab.project.nodes}


def test_a_later_build_takes_what_is_downstream_of_the_new_data_and_nothing_else(lab: Lab) -> None:
    lab.sync(META)
    lab.look()
    lab.end_build(lab.newest())
    lab.sync(GOOGLE, "globex/two")
    request = lab.look(timedelta(minutes=15))
    assert _names(request) == {"stg_google_ads__campaign_daily", "fct_spend", "agg_region_spend"}
    assert request is not None
    assert request.tags["adinsights/providers"] == "google_ads"


def test_a_node_that_was_never_built_comes_along_because_others_may_stand_on_it(lab: Lab) -> None:
    lab.end_build({}, *(lab.project.nodes.keys() - {"seed.fixture.regions"}))
    lab.sync(GOOGLE)
    assert "regions" in _names(lab.look())


def test_a_seed_that_failed_comes_along_because_no_data_of_its_own_ever_calls_for_it(lab: Lab) -> None:
    lab.end_build({})
    failed = ended(result("seed.fixture.regions", "error"), minute=9)
    record_end(lab.store, failed, lab.project.nodes.keys())
    lab.sync(GOOGLE)
    assert "regions" in _names(lab.look())


def test_a_provider_s_model_that_failed_waits_for_its_own_provider(lab: Lab) -> None:
    lab.sync(META)
    lab.end_build(lab.newest())
    failed = ended(result("model.fixture.dim_ads", "error"), minute=9)
    record_end(lab.store, failed, lab.project.nodes.keys())
    lab.sync(GOOGLE)
    assert "dim_ads" not in _names(lab.look())


def test_an_update_that_arrives_during_a_build_is_built_by_the_next(lab: Lab) -> None:
    lab.sync(META)
    assert lab.look() is not None
    seen_by_the_build = lab.newest()
    lab.sync(META, "globex/late")
    assert lab.look() is None
    lab.end_build(seen_by_the_build)
    assert _names(lab.look(timedelta(minutes=15))) >= {"stg_meta__ads", "fct_spend"}
    lab.end_build(lab.newest())
    assert lab.look(timedelta(hours=1)) is None


def test_rows_that_a_clear_took_out_are_taken_out_of_the_marts_by_the_next_build(lab: Lab) -> None:
    lab.sync(META)
    lab.sync(GOOGLE)
    lab.end_build(lab.newest())
    seen_by_the_build = lab.newest()
    with lab.store.begin() as connection:
        note_taken_out(connection, {GOOGLE: 41}, lab.now)
    lab.end_build(seen_by_the_build)  # one that was at work meanwhile
    assert _names(lab.look(timedelta(minutes=15))) >= {"stg_google_ads__campaign_daily", "fct_spend"}
    lab.end_build(lab.newest())
    assert lab.look(timedelta(hours=1)) is None


def test_what_another_build_covered_meanwhile_is_not_built_again(lab: Lab) -> None:
    lab.sync(META)
    lab.end_build(lab.newest())
    assert lab.look() is None


def test_builds_keep_the_interval_however_often_somebody_looks(lab: Lab) -> None:
    started = []
    for minute in range(46):
        lab.sync(META)
        if lab.look() is not None:
            started.append(minute)
            lab.end_build(lab.newest())
    assert started == [0, 15, 30, 45]


def test_a_build_that_failed_or_died_is_asked_for_again(lab: Lab) -> None:
    lab.sync(META)
    first = lab.look()
    second = lab.look(timedelta(minutes=15))
    assert first is not None
    assert second is not None
    assert second.run_key != first.run_key
    assert second.tags["adinsights/attempt"] == "2"


@pytest.mark.parametrize("status", [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTED])
def test_a_build_that_is_queued_or_has_just_started_is_waited_for(lab: Lab, status: dg.DagsterRunStatus) -> None:
    lab.now = datetime.now(UTC)
    lab.sync(META)
    _add_run(lab.instance, status)
    assert lab.look(timedelta()) is None
    assert lab.skipped is not None
    assert "queued or running" in lab.skipped


def test_a_build_that_holds_the_lock_is_waited_for_whoever_started_it(lab: Lab) -> None:
    lab.sync(META)
    with lab.store.exclusive(BUILD_LOCK):
        assert lab.look() is None
    assert lab.look() is not None


def test_a_build_that_has_been_queued_for_hours_is_still_waited_for(lab: Lab) -> None:
    _add_run(lab.instance, dg.DagsterRunStatus.QUEUED)
    lab.now = datetime.now(UTC) + timedelta(hours=3)
    lab.sync(META)
    assert lab.look() is None


def test_a_worker_that_was_killed_does_not_hold_up_the_marts_though_its_run_says_started(lab: Lab) -> None:
    _add_run(lab.instance, dg.DagsterRunStatus.STARTED)
    lab.now = datetime.now(UTC) + timedelta(minutes=4)
    lab.sync(META)
    assert lab.look() is not None


def test_results_that_a_build_could_not_publish_are_published_by_the_next_look(lab: Lab, production: Settings) -> None:
    lab.end_build({})
    path = production.dbt.run_results_path
    path.parent.write_text("in the way")
    assert lab.look() is None
    path.parent.unlink()
    lab.look()
    assert len(json.loads(path.read_text())["results"]) == sum(uid.startswith("model.") for uid in lab.project.nodes)


def test_a_file_that_cannot_be_published_does_not_keep_builds_from_starting(lab: Lab, production: Settings) -> None:
    lab.end_build({})
    production.dbt.run_results_path.parent.write_text("in the way")
    lab.sync(META)
    assert lab.look() is not None


def test_an_ops_store_that_is_down_fails_the_tick_and_starts_nothing(
    production: Settings, project: Project, instance: dg.DagsterInstance
) -> None:
    down = OpsStoreSettings.model_validate({"dsn": f"postgresql://u:p@127.0.0.1:{free_port()}/x"})
    lab = Lab(production, OpsStore(down), project, instance)
    lab.sync(META)
    with pytest.raises(OpsStoreError):
        lab.look()


def test_the_requested_run_is_one_that_the_job_accepts(lab: Lab) -> None:
    lab.end_build({})
    lab.sync(GOOGLE)
    request = lab.look()
    assert request is not None
    subset = requested_job(lab.defs, request)
    assert {key.path[-1] for key in subset.asset_layer.executable_asset_keys} == _names(request)
    checks = {key.name for key in subset.asset_layer.asset_graph.asset_check_keys}
    assert "not_null_fct_spend_entity_id" in checks
    assert "spend_was_always_positive" not in checks
    assert not any(name.startswith("freshness_") for name in checks)


_EVENTS = st.lists(st.sampled_from(["meta", "google", "look", "begin", "succeed", "fail"]), max_size=14)


@hypothesis_settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(events=_EVENTS)
def test_whatever_happens_in_whatever_order_no_update_is_lost(
    production: Settings, ops_store: OpsStore, project: Project, events: list[str]
) -> None:
    with ops_store.begin() as connection:
        for table in (cursor, dbt_model_result, dbt_invocation):
            connection.execute(sa.delete(table))
    with dg.DagsterInstance.ephemeral() as instance:
        lab = Lab(production, ops_store, project, instance)
        asked, seen = False, None
        for event in [*events, "meta", *["look", "begin", "succeed"] * 3]:
            if event in ("meta", "google"):
                lab.sync(META if event == "meta" else GOOGLE)
            elif event == "look" and not asked and seen is None:
                asked = lab.look(timedelta(minutes=40)) is not None
            elif event == "begin" and asked:
                asked, seen = False, lab.newest()
            elif event in ("succeed", "fail") and seen is not None:
                if event == "succeed":
                    lab.end_build(seen)
                seen = None
        assert coverage(ops_store) == lab.newest()
        assert lab.look(timedelta(days=1)) is None


def _registered(settings: Settings, store: OpsStore) -> dict[str, set[str]]:
    repository = build_transformation(settings, store).get_repository_def()
    return {
        "jobs": {job.name for job in repository.get_all_jobs() if not job.name.startswith("__")},
        "sensors": {sensor.name for sensor in repository.sensor_defs},
        "schedules": {schedule.name for schedule in repository.schedule_defs},
    }


def test_only_what_the_environment_declares_is_registered(settings: Settings, ops_store: OpsStore) -> None:
    found = {
        environment: _registered(settings.model_copy(update={"environment": environment}), ops_store)
        for environment in Environment
    }
    everything = {"dbt_build", "dbt_refresh", "dbt_nightly", "dbt_source_freshness"}
    schedules = {"dbt_nightly_build", "dbt_source_freshness_look"}
    for environment in (Environment.LOCAL, Environment.PRODUCTION):
        assert found[environment] == {"jobs": everything, "sensors": {"dbt_refresh"}, "schedules": schedules}
    assert found[Environment.STAGING] == {
        "jobs": everything - {"dbt_refresh"},
        "sensors": set(),
        "schedules": schedules,
    }


def test_on_a_laptop_nothing_runs_unattended_outside_the_local_stack(settings: Settings, ops_store: OpsStore) -> None:
    for inside in (True, False):
        defs = build_transformation(settings.model_copy(update={"local_stack": inside}), ops_store)
        sensor = defs.get_repository_def().get_sensor_def("dbt_refresh")
        schedule = defs.get_repository_def().get_schedule_def("dbt_nightly_build")
        assert (sensor.default_status == dg.DefaultSensorStatus.RUNNING) is inside
        assert (schedule.default_status == dg.DefaultScheduleStatus.RUNNING) is inside


def test_the_nightly_build_takes_every_node_in_the_home_timezone_and_refreshes_nothing_in_full(
    production: Settings, ops_store: OpsStore, project: Project
) -> None:
    defs = build_transformation(production, ops_store)
    schedule = defs.get_repository_def().get_schedule_def("dbt_nightly_build")
    assert (schedule.cron_schedule, schedule.execution_timezone) == ("0 3 * * *", "America/Jamaica")
    job = defs.resolve_job_def("dbt_nightly")
    assert len(set(job.asset_layer.executable_asset_keys)) == len(project.nodes)
    assert {key.name for key in job.asset_layer.asset_graph.asset_check_keys} >= {"spend_was_always_positive"}
    assert not job.run_config
    assert job.tags["adinsights/dbt"] == "build"
