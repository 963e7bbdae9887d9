"""Every finished sync is told to Dagster once, in order, whatever dies in between."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.events import DagsterEvent, DagsterEventType, StepMaterializationData
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from adinsights_orchestration.dagster_internals import events
from adinsights_orchestration.ingestion import ledger, specs
from adinsights_orchestration.ingestion.airbyte_models import JobStatus, JobType
from adinsights_orchestration.ingestion.reporting import Reporter
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import report_batch, sync_job
from adinsights_orchestration.settings import OpsStoreSettings, Settings
from adinsights_orchestration.tenants.model import Provider
from tests.conftest import PostgresServer, dagster_instance_on
from tests.ingestion.finished import NOW, connection, job, record, registry

META = specs.asset_key(Provider.META)


class KilledError(Exception):
    """Stands for a process that ends between two statements."""


def _reporter(instance: dg.DagsterInstance, store: OpsStore, *names: str) -> Reporter:
    return Reporter(instance, store, Settings(), registry(connection(name) for name in names))


def _materialized(instance: dg.DagsterInstance, provider: Provider = Provider.META) -> list[tuple[str, int]]:
    wanted = dg.EventRecordsFilter(DagsterEventType.ASSET_MATERIALIZATION, asset_key=specs.asset_key(provider))
    records = instance.event_log_storage.get_event_records(wanted, ascending=True)
    found = []
    for record_ in records:
        materialization = record_.asset_materialization
        assert materialization is not None
        assert record_.partition_key is not None
        found.append((record_.partition_key, int(materialization.metadata[events.SYNC_ID_KEY].value)))  # type: ignore[arg-type]
    return found


def _checks(instance: dg.DagsterInstance) -> dict[str | None, bool]:
    """The newest result of the `sync` check by partition, as the UI would show it."""
    key = dg.AssetCheckKey(META, specs.SYNC_CHECK)
    history = instance.event_log_storage.get_asset_check_execution_history(key, limit=1000)
    return {record_.partition: record_.status.value == "SUCCEEDED" for record_ in reversed(history)}


def _check_history(instance: dg.DagsterInstance) -> list[tuple[str | None, int]]:
    """Every result of the `sync` check, oldest first: its partition, and the job that it speaks of."""
    key = dg.AssetCheckKey(META, specs.SYNC_CHECK)
    found = []
    for record_ in reversed(instance.event_log_storage.get_asset_check_execution_history(key, limit=1000)):
        assert record_.event is not None
        evaluation = record_.event.get_dagster_event().asset_check_evaluation_data
        found.append((record_.partition, int(evaluation.metadata[events.SYNC_ID_KEY].value)))  # type: ignore[arg-type]
    return found


def _shown(instance: dg.DagsterInstance, partition: str) -> bool | None:
    """Whether the UI shows the partition's check as passed; None while nothing later than its data was evaluated."""
    key = dg.AssetCheckKey(META, specs.SYNC_CHECK)
    record_, *_ = instance.event_log_storage.get_asset_check_execution_history(
        key, limit=1, partition_filter=PartitionKeyFilter(key=partition)
    )
    assert record_.event is not None
    target = record_.event.get_dagster_event().asset_check_evaluation_data.target_materialization_data
    latest = events.latest_materializations(instance, META, [partition]).get(partition)
    if (target.storage_id if target else None) != (latest.storage_id if latest else None):
        return None
    return record_.status.value == "SUCCEEDED"


def _states(store: OpsStore) -> Counter[str]:
    with store.begin() as transaction:
        return Counter(transaction.execute(sa.select(sync_job.c.report_state)).scalars())


def test_a_finished_sync_becomes_a_materialization_at_the_time_it_ended(
    postgres_instance: dg.DagsterInstance, ops_store: OpsStore
) -> None:
    meta = connection("meta")
    record(ops_store, [job(7, meta, minutes=-90)])
    reported = _reporter(postgres_instance, ops_store, "meta").report(NOW)
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
    assert f"jobId={7}" in str(values["airbyte/job"])


def test_a_failed_sync_fails_its_partitions_check_with_airbytes_reason_and_materializes_nothing(
    postgres_instance: dg.DagsterInstance, ops_store: OpsStore
) -> None:
    broken, fine = connection("broken"), connection("fine")
    record(ops_store, [job(1, broken, status=JobStatus.FAILED), job(2, fine)])
    reported = _reporter(postgres_instance, ops_store, "broken", "fine").report(NOW)
    assert (reported.materialized, reported.failed) == (1, 1)
    assert _materialized(postgres_instance) == [(fine.partition_key, 2)]
    assert _checks(postgres_instance) == {broken.partition_key: False, fine.partition_key: True}
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
    reporter = _reporter(postgres_instance, ops_store, "meta")
    record(ops_store, [job(1, meta, status=JobStatus.FAILED)])
    reporter.report(NOW)
    assert _checks(postgres_instance) == {meta.partition_key: False}
    record(ops_store, [job(2, meta, minutes=5)])
    reporter.report(NOW)
    assert _checks(postgres_instance) == {meta.partition_key: True}


def test_syncs_are_reported_in_the_order_in_which_they_ended_and_not_in_that_of_their_ids(
    postgres_instance: dg.DagsterInstance, ops_store: OpsStore
) -> None:
    meta = connection("meta")
    record(ops_store, [job(1, meta, minutes=30), job(2, meta, minutes=10), job(3, meta, minutes=20)])
    _reporter(postgres_instance, ops_store, "meta").report(NOW)
    assert [job_id for _, job_id in _materialized(postgres_instance)] == [2, 3, 1]


def test_nothing_is_reported_twice_by_a_second_report(
    postgres_instance: dg.DagsterInstance, ops_store: OpsStore
) -> None:
    record(ops_store, [job(1, connection("meta"))])
    reporter = _reporter(postgres_instance, ops_store, "meta")
    reporter.report(NOW)
    assert reporter.report(NOW).materialized == 0
    assert len(_materialized(postgres_instance)) == 1


def test_a_report_is_bounded_and_the_next_one_goes_on(
    postgres_instance: dg.DagsterInstance, ops_store: OpsStore
) -> None:
    meta, tiktok = connection("meta"), connection("tiktok", Provider.TIKTOK_ADS)
    record(ops_store, [job(n, meta, minutes=n) for n in range(1, 8)] + [job(20, tiktok)])
    reporter = _reporter(postgres_instance, ops_store, "meta")
    assert reporter.report(NOW, limit=5).materialized == 5
    assert reporter.report(NOW, limit=5).materialized == 3
    assert [job_id for _, job_id in _materialized(postgres_instance)] == [1, 2, 3, 4, 5, 6, 7]
    assert [job_id for _, job_id in _materialized(postgres_instance, Provider.TIKTOK_ADS)] == [20]


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
    reporter = _reporter(postgres_instance, ops_store, "meta")
    assert reporter.release_dead_runs(NOW) == 0
    assert reporter.report(NOW).materialized == 0

    # The run told Dagster of job 1 before it was killed.
    _materialized_by(postgres_instance, run, meta.partition_key, 1)
    postgres_instance.report_run_failed(run)
    assert reporter.release_dead_runs(NOW) == 1
    assert reporter.report(NOW).materialized == 1
    assert _materialized(postgres_instance) == [(meta.partition_key, 1), (meta.partition_key, 2)]


def _materialized_by(instance: dg.DagsterInstance, run: dg.DagsterRun, partition: str, job_id: int) -> None:
    """What a run writes when it tells Dagster of a job's data."""
    materialization = dg.AssetMaterialization(META, partition=partition, metadata={events.SYNC_ID_KEY: job_id})
    data = StepMaterializationData(materialization)
    event = DagsterEvent(DagsterEventType.ASSET_MATERIALIZATION.value, run.job_name, event_specific_data=data)
    instance.report_dagster_event(event, run_id=run.run_id)


@pytest.mark.parametrize("late", [JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED])
def test_an_older_job_that_is_reported_late_does_not_turn_the_check_back(
    postgres_instance: dg.DagsterInstance, ops_store: OpsStore, late: JobStatus
) -> None:
    meta = connection("meta")
    newest = JobStatus.SUCCEEDED if late is not JobStatus.SUCCEEDED else JobStatus.FAILED
    reporter = _reporter(postgres_instance, ops_store, "meta")
    record(ops_store, [job(2, meta, minutes=10, status=newest)])
    reporter.report(NOW)
    record(ops_store, [job(1, meta, minutes=5, status=late)])
    reporter.report(NOW)
    assert _shown(postgres_instance, meta.partition_key) is (newest is JobStatus.SUCCEEDED)
    assert {job_id for _, job_id in _check_history(postgres_instance)} == {2}
    assert _states(ops_store) == {"reported": 2}
    brought = [number for number, status in ((2, newest), (1, late)) if status is JobStatus.SUCCEEDED]
    assert [job_id for _, job_id in _materialized(postgres_instance)] == brought


def test_the_check_speaks_of_a_newer_job_that_a_run_has_yet_to_report(
    postgres_instance: dg.DagsterInstance, ops_store: OpsStore
) -> None:
    meta = connection("meta")
    record(ops_store, [job(2, meta, minutes=10, status=JobStatus.FAILED)])
    with ops_store.begin() as transaction:
        transaction.execute(sa.update(sync_job).values(run_id="a-run-that-is-at-it"))
    record(ops_store, [job(1, meta, minutes=5)])
    _reporter(postgres_instance, ops_store, "meta").report(NOW)
    assert _check_history(postgres_instance) == [(meta.partition_key, 2)]
    assert _states(ops_store) == {"reported": 1, "pending": 1}


def test_a_job_that_vanished_is_older_than_what_ended_since_it_was_last_seen(
    postgres_instance: dg.DagsterInstance, ops_store: OpsStore
) -> None:
    meta = connection("meta")
    record(ops_store, [job(1, meta, status=JobStatus.RUNNING)])
    record(ops_store, [job(2, meta, minutes=5)])
    reporter = _reporter(postgres_instance, ops_store, "meta")
    reporter.report(NOW + timedelta(minutes=6))
    with ops_store.begin() as transaction:
        ledger.mark_vanished(transaction, [1], NOW + timedelta(minutes=11))
    reporter.report(NOW + timedelta(minutes=11))
    assert _shown(postgres_instance, meta.partition_key) is True


def test_clears_and_running_jobs_say_nothing_about_the_last_sync(
    postgres_instance: dg.DagsterInstance, ops_store: OpsStore
) -> None:
    meta = connection("meta")
    cleared = job(3, meta, minutes=20)
    cleared = replace(cleared, job=replace(cleared.job, type=JobType.CLEAR))
    record(ops_store, [job(1, meta, status=JobStatus.FAILED), cleared, job(4, meta, status=JobStatus.RUNNING)])
    _reporter(postgres_instance, ops_store, "meta").report(NOW)
    assert _check_history(postgres_instance) == [(meta.partition_key, 1)]


def test_a_run_that_died_between_its_materialization_and_its_check_gets_the_check_evaluated(
    postgres_instance: dg.DagsterInstance, ops_store: OpsStore
) -> None:
    @dg.job
    def waiting() -> None:
        pass

    meta = connection("meta")
    run = postgres_instance.create_run_for_job(waiting, status=dg.DagsterRunStatus.STARTED)
    record(ops_store, [job(1, meta)])
    with ops_store.begin() as transaction:
        transaction.execute(sa.update(sync_job).values(run_id=run.run_id))
    _materialized_by(postgres_instance, run, meta.partition_key, 1)
    postgres_instance.report_run_failed(run)
    reporter = _reporter(postgres_instance, ops_store, "meta")
    assert reporter.release_dead_runs(NOW) == 1
    reporter.report(NOW)
    assert _shown(postgres_instance, meta.partition_key) is True
    assert _states(ops_store) == {"reported": 1}


class RacedStore(OpsStore):
    """An ops store into which another process writes just after the n-th transaction."""

    def __init__(self, store: OpsStore, after: int, write: Callable[[], None]) -> None:
        self._engine, self._left, self._write = store.engine, after, write

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        with super().begin() as transaction:
            yield transaction
        self._left -= 1
        if self._left == 0:
            self._write()


@pytest.mark.parametrize("after", range(1, 8))
def test_a_newer_job_that_somebody_else_reports_meanwhile_has_the_last_word(
    postgres_instance: dg.DagsterInstance, ops_store: OpsStore, after: int
) -> None:
    """A run tells Dagster of its own job at any moment of a report."""
    meta = connection("meta")
    record(ops_store, [job(1, meta)])
    newer = job(2, meta, minutes=10, status=JobStatus.FAILED)
    theirs: list[int] = []

    def run_reports() -> None:
        theirs.append(2)
        record(ops_store, [newer])
        with ops_store.begin() as transaction:
            transaction.execute(sa.update(sync_job).where(sync_job.c.job_id == 2).values(report_state="reported"))
            row = ledger.jobs_by_id(transaction, [2])[2]
        events.report_checks(postgres_instance, META, specs.SYNC_CHECK, [specs.check_result(row, Settings())], at=NOW)

    _reporter(postgres_instance, RacedStore(ops_store, after, run_reports), "meta").report(NOW)
    if not theirs:
        run_reports()
    assert _shown(postgres_instance, meta.partition_key) is False


class DyingStore(OpsStore):
    """An ops store that ends the process before or after its n-th transaction."""

    def __init__(self, store: OpsStore, dies_at: int) -> None:
        self._engine, self._left = store.engine, dies_at

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        self._left -= 1
        if self._left == 0:
            raise KilledError
        with super().begin() as transaction:
            yield transaction
        self._left -= 1
        if self._left == 0:
            raise KilledError


def _emptied(instance: dg.DagsterInstance, store: OpsStore) -> None:
    """A fresh world for the next example."""
    instance.event_log_storage.wipe()
    with store.begin() as transaction:
        transaction.execute(sa.delete(sync_job))
        transaction.execute(sa.delete(report_batch))


KILLS = st.lists(st.integers(1, 14), max_size=4)
ENDS = st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), min_size=1, max_size=9)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kills=KILLS, ends=ENDS)
def test_whatever_dies_between_two_statements_every_job_is_reported_once(
    postgres_instance: dg.DagsterInstance, ops_store: OpsStore, kills: list[int], ends: list[tuple[str, bool]]
) -> None:
    _emptied(postgres_instance, ops_store)
    statuses = {True: JobStatus.SUCCEEDED, False: JobStatus.FAILED}
    jobs = [job(n, connection(name), minutes=n, status=statuses[well]) for n, (name, well) in enumerate(ends, 1)]
    record(ops_store, jobs)
    for dies_at in kills:
        try:
            _reporter(postgres_instance, DyingStore(ops_store, dies_at), "a", "b", "c").report(NOW, limit=4)
        except KilledError:
            continue
    _reporter(postgres_instance, ops_store, "a", "b", "c").report(NOW)
    expected = [(connection(name).partition_key, n) for n, (name, well) in enumerate(ends, 1) if well]
    assert _materialized(postgres_instance) == expected
    assert _checks(postgres_instance) == {connection(name).partition_key: well for name, well in ends}
    assert _states(ops_store) == {"reported": len(ends)}


END = st.tuples(st.sampled_from("ab"), st.integers(1, 40), st.booleans())
ARRIVALS = st.lists(st.lists(END, max_size=4), max_size=5)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrivals=ARRIVALS, kills=st.lists(st.integers(1, 14), max_size=5))
def test_in_whatever_order_jobs_arrive_and_whatever_dies_a_check_never_goes_back(
    postgres_instance: dg.DagsterInstance,
    ops_store: OpsStore,
    arrivals: list[list[tuple[str, int, bool]]],
    kills: list[int],
) -> None:
    _emptied(postgres_instance, ops_store)
    statuses = {True: JobStatus.SUCCEEDED, False: JobStatus.FAILED}
    ends: dict[int, tuple[str, int, bool]] = {}
    dying = iter(kills)
    for arrived in arrivals:
        numbered = dict(enumerate(arrived, len(ends) + 1))
        ends |= numbered
        record(ops_store, [job(n, connection(c), minutes=m, status=statuses[w]) for n, (c, m, w) in numbered.items()])
        store = DyingStore(ops_store, next(dying, 0))
        with suppress(KilledError):
            _reporter(postgres_instance, store, "a", "b").report(NOW, limit=3)
    _reporter(postgres_instance, ops_store, "a", "b").report(NOW)
    told = [(partition, ends[job_id][1], job_id) for partition, job_id in _check_history(postgres_instance)]
    for name in {end[0] for end in ends.values()}:
        key = connection(name).partition_key
        mine = [(minute, job_id) for partition, minute, job_id in told if partition == key]
        assert mine == sorted(mine)
        newest = max((minute, job_id) for job_id, (of, minute, _) in ends.items() if of == name)
        assert mine[-1] == newest
        assert _shown(postgres_instance, key) is ends[newest[1]][2]
    assert sorted(n for _, n in _materialized(postgres_instance)) == sorted(n for n, end in ends.items() if end[2])


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
        _reporter(instance, store, *NAMES).report(NOW)
        assert [job_id for _, job_id in _materialized(instance)] == list(range(1, 601))
        assert _states(store) == {"reported": 600}
        store.dispose()
