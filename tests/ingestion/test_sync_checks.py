"""A partition's `sync` check speaks of its newest job that is over, whoever reports whatever when."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta

import dagster as dg
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adinsights_orchestration.dagster_internals import events
from adinsights_orchestration.ingestion import ledger, specs
from adinsights_orchestration.ingestion.airbyte_models import JobStatus, JobType
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import sync_job
from adinsights_orchestration.settings import Settings
from tests.ingestion.finished import NOW, connection, job, record
from tests.ingestion.told import (
    META,
    DyingStore,
    KilledError,
    check_history,
    emptied,
    materialized,
    materialized_by,
    reporter,
    shown,
    states,
)


@pytest.mark.parametrize("late", [JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELLED])
def test_an_older_job_that_is_reported_late_does_not_turn_the_check_back(
    postgres_instance: dg.DagsterInstance, ops_store: OpsStore, late: JobStatus
) -> None:
    meta = connection("meta")
    newest = JobStatus.SUCCEEDED if late is not JobStatus.SUCCEEDED else JobStatus.FAILED
    reporting = reporter(postgres_instance, ops_store, "meta")
    record(ops_store, [job(2, meta, minutes=10, status=newest)])
    reporting.report(NOW)
    record(ops_store, [job(1, meta, minutes=5, status=late)])
    reporting.report(NOW)
    assert shown(postgres_instance, meta.partition_key) is (newest is JobStatus.SUCCEEDED)
    assert {job_id for _, job_id in check_history(postgres_instance)} == {2}
    assert states(ops_store) == {"reported": 2}
    brought = [number for number, status in ((2, newest), (1, late)) if status is JobStatus.SUCCEEDED]
    assert [job_id for _, job_id in materialized(postgres_instance)] == brought


def test_the_check_speaks_of_a_newer_job_that_a_run_has_yet_to_report(
    postgres_instance: dg.DagsterInstance, ops_store: OpsStore
) -> None:
    meta = connection("meta")
    record(ops_store, [job(2, meta, minutes=10, status=JobStatus.FAILED)])
    with ops_store.begin() as transaction:
        transaction.execute(sa.update(sync_job).values(run_id="a-run-that-is-at-it"))
    record(ops_store, [job(1, meta, minutes=5)])
    reporter(postgres_instance, ops_store, "meta").report(NOW)
    assert check_history(postgres_instance) == [(meta.partition_key, 2)]
    assert states(ops_store) == {"reported": 1, "pending": 1}


def test_a_job_that_vanished_is_older_than_what_ended_since_it_was_last_seen(
    postgres_instance: dg.DagsterInstance, ops_store: OpsStore
) -> None:
    meta = connection("meta")
    record(ops_store, [job(1, meta, status=JobStatus.RUNNING)])
    record(ops_store, [job(2, meta, minutes=5)])
    reporting = reporter(postgres_instance, ops_store, "meta")
    reporting.report(NOW + timedelta(minutes=6))
    with ops_store.begin() as transaction:
        ledger.note_missing(transaction, 1, NOW + timedelta(minutes=10))
        ledger.note_missing(transaction, 1, NOW + timedelta(minutes=11))
    reporting.report(NOW + timedelta(minutes=11))
    assert shown(postgres_instance, meta.partition_key) is True


def test_clears_and_running_jobs_say_nothing_about_the_last_sync(
    postgres_instance: dg.DagsterInstance, ops_store: OpsStore
) -> None:
    meta = connection("meta")
    cleared = job(3, meta, minutes=20)
    cleared = replace(cleared, job=replace(cleared.job, type=JobType.CLEAR))
    record(ops_store, [job(1, meta, status=JobStatus.FAILED), cleared, job(4, meta, status=JobStatus.RUNNING)])
    reporter(postgres_instance, ops_store, "meta").report(NOW)
    assert check_history(postgres_instance) == [(meta.partition_key, 1)]


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
    materialized_by(postgres_instance, run, meta.partition_key, 1)
    postgres_instance.report_run_failed(run)
    reporting = reporter(postgres_instance, ops_store, "meta")
    assert reporting.release_dead_runs(NOW) == 1
    reporting.report(NOW)
    assert shown(postgres_instance, meta.partition_key) is True
    assert states(ops_store) == {"reported": 1}


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
        result = specs.check_result(row, None, Settings())
        events.report_checks(postgres_instance, META, specs.SYNC_CHECK, [result], at=NOW)

    reporter(postgres_instance, RacedStore(ops_store, after, run_reports), "meta").report(NOW)
    if not theirs:
        run_reports()
    assert shown(postgres_instance, meta.partition_key) is False


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
    emptied(postgres_instance, ops_store)
    statuses = {True: JobStatus.SUCCEEDED, False: JobStatus.FAILED}
    ends: dict[int, tuple[str, int, bool]] = {}
    dying = iter(kills)
    for arrived in arrivals:
        numbered = dict(enumerate(arrived, len(ends) + 1))
        ends |= numbered
        record(ops_store, [job(n, connection(c), minutes=m, status=statuses[w]) for n, (c, m, w) in numbered.items()])
        store = DyingStore(ops_store, next(dying, 0))
        with suppress(KilledError):
            reporter(postgres_instance, store, "a", "b").report(NOW, limit=3)
    reporter(postgres_instance, ops_store, "a", "b").report(NOW)
    told = [(partition, ends[job_id][1], job_id) for partition, job_id in check_history(postgres_instance)]
    for name in {end[0] for end in ends.values()}:
        key = connection(name).partition_key
        mine = [(minute, job_id) for partition, minute, job_id in told if partition == key]
        assert mine == sorted(mine)
        newest = max((minute, job_id) for job_id, (of, minute, _) in ends.items() if of == name)
        assert mine[-1] == newest
        assert shown(postgres_instance, key) is ends[newest[1]][2]
    assert sorted(n for _, n in materialized(postgres_instance)) == sorted(n for n, end in ends.items() if end[2])
