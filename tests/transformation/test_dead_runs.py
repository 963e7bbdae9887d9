"""Runs of real worker processes that are really killed: found, marked as failed, and never while they live."""

from __future__ import annotations

import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import datetime, timedelta

import dagster as dg
import pytest
import sqlalchemy as sa

from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.dead_runs import WORKER_TAG, build_dead_runs, look
from adinsights_orchestration.environments import Environment
from adinsights_orchestration.errors import OpsStoreError
from adinsights_orchestration.liveness import BOOT, GONE_AFTER, Suspicion, alive, living
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import OpsStoreSettings, Settings
from adinsights_orchestration.transformation.automation import BUILD_TAG
from adinsights_orchestration.transformation.definitions import build_transformation
from adinsights_orchestration.transformation.turn import BUILD_LOCK
from tests.conftest import free_port
from tests.transformation.support import Warehouse, end_sessions, eventually, in_another_process, variables

WORKER = """
import os
import dagster as dg
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.transformation.definitions import build_transformation
settings = Settings()
defs = build_transformation(settings, OpsStore(settings.ops_store))
job = defs.resolve_job_def(os.environ["JOB"])
selection = [dg.AssetKey(["staging", "stg_meta__ads"])] if os.environ["JOB"] == "__ASSET_JOB" else None
with dg.DagsterInstance.get() as instance:
    job.execute_in_process(
        instance=instance, run_id=os.environ["RUN_ID"], raise_on_error=False, asset_selection=selection
    )
"""


class Lab:
    """Workers on one Dagster instance, and the sensor's looks with a clock of their own."""

    def __init__(self, settings: Settings, store: OpsStore, instance: dg.DagsterInstance) -> None:
        self.settings, self.store, self.instance = settings, store, instance
        self.suspected: Mapping[str, Suspicion] = {}
        self.now = utc_now()
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, job: str = "dbt_build") -> tuple[str, subprocess.Popen[bytes]]:
        """A run in a process of its own; returns when it gives proof of life."""
        run_id = str(uuid.uuid4())
        process = in_another_process(
            WORKER,
            JOB=job,
            RUN_ID=run_id,
            DAGSTER_HOME=str(self.instance.root_directory),
            **variables(self.settings),
        )
        self.processes.append(process)
        assert eventually(lambda: WORKER_TAG in self.run(run_id).tags if self.instance.has_run(run_id) else False, 120)
        return run_id, process

    def look(self, later: timedelta = timedelta(), wait: Callable[[float], None] = lambda _: None) -> set[str]:
        """One look of the sensor, so much later."""
        self.now += later
        failed, self.suspected = look(self.instance, self.store, self.suspected, self.now, wait=wait)
        return failed

    def run(self, run_id: str) -> dg.DagsterRun:
        """The run as Dagster has it."""
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run

    def started(self) -> int:
        """Runs that hold a place in the queue for builds."""
        return self.instance.get_runs_count(dg.RunsFilter(tags=BUILD_TAG, statuses=[dg.DagsterRunStatus.STARTED]))


@pytest.fixture
def lab(
    settings: Settings, ops_store: OpsStore, postgres_instance: dg.DagsterInstance, warehouse: Warehouse
) -> Iterator[Lab]:
    """A slow warehouse, so that builds are at work for as long as a test needs."""
    warehouse.make_meta_slow(300)
    found = Lab(settings, ops_store, postgres_instance)
    yield found
    for process in found.processes:
        process.kill()
        process.communicate()


def test_a_run_whose_worker_was_killed_is_failed_within_two_looks_and_the_next_build_has_its_place(
    lab: Lab, warehouse: Warehouse
) -> None:
    run_id, process = lab.start()
    assert eventually(lambda: warehouse.running_dbt_queries() > 0)
    assert lab.look() == set()
    assert (lab.suspected, lab.started()) == ({}, 1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert eventually(lambda: alive(lab.store, [run_id]) == set())

    assert lab.look(timedelta(seconds=60)) == set()
    assert lab.run(run_id).status is dg.DagsterRunStatus.STARTED
    assert lab.look(timedelta(seconds=60)) == {run_id}
    assert lab.run(run_id).status is dg.DagsterRunStatus.FAILURE
    assert lab.started() == 0
    [event] = [
        record.event_log_entry
        for record in lab.instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.RUN_FAILURE).records
    ]
    assert lab.run(run_id).tags[WORKER_TAG].endswith(f":{process.pid}")
    assert f":{process.pid}) is gone" in event.message
    assert "done by the next run" in event.message
    assert lab.look(timedelta(seconds=60)) == set()


def test_a_run_that_a_person_materialized_is_found_too(lab: Lab) -> None:
    run_id, process = lab.start("__ASSET_JOB")
    process.kill()
    process.communicate()
    assert eventually(lambda: alive(lab.store, [run_id]) == set())
    lab.look()
    assert lab.look(GONE_AFTER) == {run_id}


def test_a_run_that_only_waits_for_another_build_lives(lab: Lab) -> None:
    with lab.store.exclusive(BUILD_LOCK) as mine:
        assert mine
        run_id, process = lab.start()
        for _ in range(4):
            assert lab.look(timedelta(minutes=30)) == set()
        process.kill()
        process.communicate()
        assert eventually(lambda: alive(lab.store, [run_id]) == set())
        lab.look(timedelta(minutes=1))
        assert lab.look(timedelta(minutes=1)) == {run_id}


def test_a_run_at_work_lives_on_through_a_restart_of_postgres_however_badly_the_looks_fall(
    lab: Lab, warehouse: Warehouse
) -> None:
    run_id, _process = lab.start()
    # A restart in the middle of a statement fails a run that is only beginning: it has nothing to lose yet.
    assert eventually(lambda: warehouse.running_dbt_queries() > 0)
    for _ in range(2):
        end_sessions(lab.store)
        lab.look(timedelta(minutes=1), wait=time.sleep)
        assert eventually(lambda: alive(lab.store, [run_id]) == {run_id})
        assert lab.run(run_id).status is dg.DagsterRunStatus.STARTED


def _started(instance: dg.DagsterInstance, **tags: str) -> str:
    """A run that has only just started, as Dagster records it."""
    run = dg.DagsterRun(job_name="dbt_refresh", run_id=str(uuid.uuid4()), tags=tags)
    instance.add_run(run)
    event = dg.DagsterEvent(dg.DagsterEventType.RUN_START.value, job_name="dbt_refresh")
    instance.report_dagster_event(event, run_id=run.run_id)
    return run.run_id


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance of this test's own."""
    with dg.DagsterInstance.ephemeral() as found:
        yield found


def _looks(instance: dg.DagsterInstance, store: OpsStore, *moments: datetime) -> list[set[str]]:
    suspected: Mapping[str, Suspicion] = {}
    found = []
    for moment in moments:
        failed, suspected = look(instance, store, suspected, moment, wait=lambda _: None)
        found.append(failed)
    return found


def test_a_run_that_starts_has_the_time_to_and_one_that_died_meanwhile_is_found(
    instance: dg.DagsterInstance, ops_store: OpsStore
) -> None:
    run_id = _started(instance, **BUILD_TAG)
    now = utc_now()
    assert _looks(instance, ops_store, now, now + GONE_AFTER, now + 2 * GONE_AFTER) == [set(), set(), set()]
    assert _looks(instance, ops_store, now + BOOT, now + BOOT + GONE_AFTER) == [set(), {run_id}]


def test_runs_that_promise_no_proof_of_life_are_left_alone(instance: dg.DagsterInstance, ops_store: OpsStore) -> None:
    _started(instance, **{"adinsights/kind": "sync"})
    later = utc_now() + timedelta(days=1)
    assert _looks(instance, ops_store, later, later + timedelta(days=1)) == [set(), set()]


def test_a_run_that_is_seen_again_at_the_last_moment_lives(instance: dg.DagsterInstance, ops_store: OpsStore) -> None:
    run_id = _started(instance, **{WORKER_TAG: "host:1"})
    now = utc_now()
    _failed, suspected = look(instance, ops_store, {}, now)
    with living(ops_store, run_id):
        assert look(instance, ops_store, suspected, now + GONE_AFTER)[0] == set()
    _failed, suspected = look(instance, ops_store, {}, now)
    blocks: list[AbstractContextManager[None]] = []

    def comes_back(_seconds: float) -> None:
        if not blocks:
            blocks.append(living(ops_store, run_id))
            blocks[0].__enter__()

    assert look(instance, ops_store, suspected, now + GONE_AFTER, wait=comes_back)[0] == set()
    blocks[0].__exit__(None, None, None)


def test_a_run_that_ends_while_it_is_judged_keeps_its_own_end(
    instance: dg.DagsterInstance, ops_store: OpsStore
) -> None:
    run_id = _started(instance, **{WORKER_TAG: "host:1"})
    now = utc_now()
    _failed, suspected = look(instance, ops_store, {}, now)

    def ends(_seconds: float) -> None:
        event = dg.DagsterEvent(dg.DagsterEventType.RUN_SUCCESS.value, job_name="dbt_refresh")
        instance.report_dagster_event(event, run_id=run_id)

    assert look(instance, ops_store, suspected, now + GONE_AFTER, wait=ends)[0] == set()
    run = instance.get_run_by_id(run_id)
    assert run is not None
    assert run.status is dg.DagsterRunStatus.SUCCESS


def test_the_sensor_keeps_its_suspicions_from_tick_to_tick(
    settings: Settings, ops_store: OpsStore, instance: dg.DagsterInstance
) -> None:
    run_id = _started(instance, **{WORKER_TAG: "host:1"})
    now = utc_now()
    production = settings.model_copy(update={"environment": Environment.PRODUCTION})
    defs = build_dead_runs(production, ops_store, clock=lambda: now, wait=lambda _: None)
    sensor = defs.get_repository_def().get_sensor_def("dead_runs")
    cursor = None
    said = []
    for _ in range(2):
        with dg.build_sensor_context(instance=instance, cursor=cursor) as context:
            tick = sensor.evaluate_tick(context)
        cursor = tick.cursor
        said.append(tick.skip_message)
        now += timedelta(seconds=60)
    assert said == ["No dead runs.", f"1 dead runs marked as failed: {run_id}"]


def test_without_the_ops_store_the_tick_fails_and_nobody_is_declared_dead(instance: dg.DagsterInstance) -> None:
    run_id = _started(instance, **{WORKER_TAG: "host:1"})
    down = OpsStore(OpsStoreSettings.model_validate({"dsn": f"postgresql://u:p@127.0.0.1:{free_port()}/x"}))
    with pytest.raises(OpsStoreError):
        look(instance, down, {run_id: Suspicion(utc_now() - timedelta(days=1), 0)}, utc_now())


def test_every_environment_watches_its_runs(settings: Settings, ops_store: OpsStore) -> None:
    for environment in Environment:
        defs = build_dead_runs(settings.model_copy(update={"environment": environment}), ops_store)
        assert [sensor.name for sensor in defs.get_repository_def().sensor_defs] == ["dead_runs"]


def test_a_build_in_this_process_proves_that_it_lives_only_while_it_lasts(
    settings: Settings, ops_store: OpsStore, warehouse: Warehouse, instance: dg.DagsterInstance
) -> None:
    defs = build_transformation(settings, ops_store)
    result = defs.resolve_job_def("dbt_build").execute_in_process(
        instance=instance, run_config={"ops": {"build": {"config": {"select": "regions"}}}}
    )
    assert result.success
    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    assert WORKER_TAG in run.tags
    assert alive(ops_store, [result.run_id]) == set()
    with ops_store.begin() as connection:
        held = sa.text(
            "select count(*) from pg_locks join pg_database on pg_database.oid = pg_locks.database"
            " where locktype = 'advisory' and datname = current_database()"
        )
        assert connection.execute(held).scalar() == 0
