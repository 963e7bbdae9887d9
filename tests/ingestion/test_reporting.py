"""Every finished sync is told to Dagster once, in order, whatever dies in between."""

from __future__ import annotations

import itertools
import random
import signal
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._core.event_api import PartitionKeyFilter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from adinsights_orchestration.clock import TickClock
from adinsights_orchestration.ingestion import specs
from adinsights_orchestration.ingestion.airbyte_models import JobStatus
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import sync_job
from adinsights_orchestration.settings import OpsStoreSettings
from adinsights_orchestration.tenants.model import Provider
from tests.conftest import PostgresServer, dagster_instance_on
from tests.ingestion.finished import NOW, connection, job, record
from tests.ingestion.told import (
    META,
    DyingStore,
    KilledError,
    checks,
    emptied,
    materialized,
    materialized_by,
    reporter,
    states,
)


def test_a_finished_sync_becomes_a_materialization_at_the_time_it_ended(
    postgres_instance: dg.DagsterInstance, ops_store: OpsStore
) -> None:
    meta = connection("meta")
    record(ops_store, [job(7, meta, minutes=-90)])
    reported = reporter(postgres_instance, ops_store, "meta").report(NOW)
    assert (reported.materialized, reported.failed) == (1, 0)
    latest = postgres_instance.get_latest_materialization_event(META)
    assert latest is not None
    assert latest.timestamp == (NOW - timedelta(minutes=90)).timestamp()
    materialization = latest.asset_materialization
    assert materialization is not None
    values = {name: entry.value for name, entry in materialization.metadata.items()}
    assert values["dagster/row_count"] == 42
    assert values["dagster-airbyte/connection_id"] == str(meta.connection_id)
    assert values["dagster-airbyte/connection_name"] == "meta"
    assert values["duration_seconds"] == 120
    page = f"/workspaces/{meta.workspace_id}/connections/{meta.connection_id}/timeline?openLogs=true&jobId=7"
    assert str(values["airbyte/job"]).endswith(page)


def test_a_failed_sync_fails_its_partitions_check_with_airbytes_reason_and_materializes_nothing(
    postgres_instance: dg.DagsterInstance, ops_store: OpsStore
) -> None:
    broken, fine = connection("broken"), connection("fine")
    record(ops_store, [job(1, broken, status=JobStatus.FAILED), job(2, fine)])
    reported = reporter(postgres_instance, ops_store, "broken", "fine").report(NOW)
    assert (reported.materialized, reported.failed) == (1, 1)
    assert materialized(postgres_instance) == [(fine.partition_key, 2)]
    assert checks(postgres_instance) == {broken.partition_key: False, fine.partition_key: True}
    key = dg.AssetCheckKey(META, specs.SYNC_CHECK)
    failed, *_ = postgres_instance.event_log_storage.get_asset_check_execution_history(
        key, limit=1, partition_filter=PartitionKeyFilter(key=broken.partition_key)
    )
    assert failed.event is not None
    evaluation = failed.event.get_dagster_event().asset_check_evaluation_data
    assert evaluation.description == "Airbyte job 1 failed (source, config_error): the token was revoked"


def test_a_success_after_a_failure_turns_the_check_green_again(
    postgres_instance: dg.DagsterInstance, ops_store: OpsStore
) -> None:
    meta = connection("meta")
    reporting = reporter(postgres_instance, ops_store, "meta")
    record(ops_store, [job(1, meta, status=JobStatus.FAILED)])
    reporting.report(NOW)
    assert checks(postgres_instance) == {meta.partition_key: False}
    record(ops_store, [job(2, meta, minutes=5)])
    reporting.report(NOW)
    assert checks(postgres_instance) == {meta.partition_key: True}


def test_syncs_are_reported_in_the_order_in_which_they_ended_and_not_in_that_of_their_ids(
    postgres_instance: dg.DagsterInstance, ops_store: OpsStore
) -> None:
    meta = connection("meta")
    record(ops_store, [job(1, meta, minutes=30), job(2, meta, minutes=10), job(3, meta, minutes=20)])
    reporter(postgres_instance, ops_store, "meta").report(NOW)
    assert [job_id for _, job_id in materialized(postgres_instance)] == [2, 3, 1]


def test_nothing_is_reported_twice_by_a_second_report(
    postgres_instance: dg.DagsterInstance, ops_store: OpsStore
) -> None:
    record(ops_store, [job(1, connection("meta"))])
    reporting = reporter(postgres_instance, ops_store, "meta")
    reporting.report(NOW)
    assert reporting.report(NOW).materialized == 0
    assert len(materialized(postgres_instance)) == 1


def test_a_report_is_bounded_and_the_next_one_goes_on(
    postgres_instance: dg.DagsterInstance, ops_store: OpsStore
) -> None:
    meta, tiktok = connection("meta"), connection("tiktok", Provider.TIKTOK_ADS)
    record(ops_store, [job(n, meta, minutes=n) for n in range(1, 8)] + [job(20, tiktok)])
    reporting = reporter(postgres_instance, ops_store, "meta")
    assert reporting.report(NOW, limit=5).materialized == 5
    assert reporting.report(NOW, limit=5).materialized == 3
    assert [job_id for _, job_id in materialized(postgres_instance)] == [1, 2, 3, 4, 5, 6, 7]
    assert [job_id for _, job_id in materialized(postgres_instance, Provider.TIKTOK_ADS)] == [20]


def test_a_report_stops_between_batches_when_the_ticks_time_is_up_and_the_next_one_goes_on(
    postgres_instance: dg.DagsterInstance, ops_store: OpsStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adinsights_orchestration.ingestion.reporting.BATCH", 2)
    record(ops_store, [job(n, connection("meta"), minutes=n) for n in range(1, 8)])
    reporting = reporter(postgres_instance, ops_store, "meta")
    every_look_takes_six_seconds = TickClock(NOW, 10, itertools.count(0, 6).__next__)
    told = reporting.report(NOW, clock=every_look_takes_six_seconds)
    assert (told.materialized, told.cut_short) == (4, True)
    assert states(ops_store) == {"reported": 4, "pending": 3}

    # Time that is up before the first batch: one is told all the same, else a slow Airbyte would leave all untold.
    told = reporting.report(NOW, clock=TickClock(NOW, 10, itertools.count(0, 20).__next__))
    assert (told.materialized, told.cut_short) == (2, True)
    told = reporting.report(NOW, clock=TickClock(NOW, 10, itertools.count(0, 20).__next__))
    assert (told.materialized, told.cut_short) == (1, False)
    assert [job_id for _, job_id in materialized(postgres_instance)] == [1, 2, 3, 4, 5, 6, 7]


def test_a_job_that_a_living_run_waits_for_is_left_to_it_and_taken_over_when_the_run_is_over(
    postgres_instance: dg.DagsterInstance, ops_store: OpsStore
) -> None:
    @dg.job
    def waiting() -> None:
        pass

    meta = connection("meta")
    run = postgres_instance.create_run_for_job(waiting, status=dg.DagsterRunStatus.STARTED)
    record(ops_store, [job(1, meta), job(2, meta, minutes=1)])
    with ops_store.begin() as transaction:
        transaction.execute(sa.update(sync_job).values(run_id=run.run_id))
    reporting = reporter(postgres_instance, ops_store, "meta")
    assert reporting.release_dead_runs(NOW) == 0
    assert reporting.report(NOW).materialized == 0

    # The run told Dagster of job 1 before it was killed.
    materialized_by(postgres_instance, run, meta.partition_key, 1)
    postgres_instance.report_run_failed(run)
    assert reporting.release_dead_runs(NOW) == 1
    assert reporting.report(NOW).materialized == 1
    assert materialized(postgres_instance) == [(meta.partition_key, 1), (meta.partition_key, 2)]


KILLS = st.lists(st.integers(1, 14), max_size=4)

ENDS = st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), min_size=1, max_size=9)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kills=KILLS, ends=ENDS)
def test_whatever_dies_between_two_statements_every_job_is_reported_once(
    postgres_instance: dg.DagsterInstance, ops_store: OpsStore, kills: list[int], ends: list[tuple[str, bool]]
) -> None:
    emptied(postgres_instance, ops_store)
    statuses = {True: JobStatus.SUCCEEDED, False: JobStatus.FAILED}
    jobs = [job(n, connection(name), minutes=n, status=statuses[well]) for n, (name, well) in enumerate(ends, 1)]
    record(ops_store, jobs)
    for dies_at in kills:
        try:
            reporter(postgres_instance, DyingStore(ops_store, dies_at), "a", "b", "c").report(NOW, limit=4)
        except KilledError:
            continue
    reporter(postgres_instance, ops_store, "a", "b", "c").report(NOW)
    expected = [(connection(name).partition_key, n) for n, (name, well) in enumerate(ends, 1) if well]
    assert materialized(postgres_instance) == expected
    assert checks(postgres_instance) == {connection(name).partition_key: well for name, well in ends}
    assert states(ops_store) == {"reported": len(ends)}


PROGRAM = """
import sys
import dagster as dg
from pydantic import SecretStr
from adinsights_orchestration.ingestion import reporting
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import OpsStoreSettings, Settings
from tests.ingestion.finished import NOW, connection, registry
from tests.ingestion.test_reporting import NAMES
reporting.BATCH = 20
store = OpsStore(OpsStoreSettings(dsn=SecretStr(sys.argv[1])))
with dg.DagsterInstance.get() as instance:
    print("reporting", flush=True)
    reporting.Reporter(instance, store, Settings(), registry(connection(n) for n in NAMES)).report(NOW)
"""

NAMES = tuple(f"c{n}" for n in range(12))


def _run_and_kill(dsn: str, home: str, after: float) -> bool:
    """Runs a real reporting process and kills it after that many seconds; returns whether it had ended by itself."""
    environment = {"DAGSTER_HOME": home, "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-c", PROGRAM, dsn]
    root = Path(__file__).parent.parent.parent
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, cwd=root)
    assert process.stdout is not None
    assert process.stdout.readline() == b"reporting\n"
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    process.stdout.close()
    return process.wait() == 0


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.soak) for n in range(1, 21))])
def test_a_reporting_process_that_is_killed_again_and_again_reports_every_job_once(
    postgres_server: PostgresServer, seed: int
) -> None:
    rng = random.Random(seed)
    jobs = [job(n, connection(rng.choice(NAMES)), minutes=n) for n in range(1, 601)]
    with dagster_instance_on(postgres_server) as instance:
        dsn = postgres_server.create_database("ops")
        store = OpsStore(OpsStoreSettings(dsn=SecretStr(dsn)))
        store.migrate()
        record(store, jobs)
        killed = 0
        for _ in range(4):
            killed += not _run_and_kill(dsn, instance.root_directory, rng.uniform(0.02, 0.5))
        assert killed > 0
        reporter(instance, store, *NAMES).report(NOW)
        assert [job_id for _, job_id in materialized(instance)] == list(range(1, 601))
        assert states(store) == {"reported": 600}
        store.dispose()
