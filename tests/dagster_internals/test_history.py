"""Pruning deletes what nobody reads any more, and nothing that the UI or freshness still reads."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import sqlalchemy as sa
from dagster._core.event_api import EventRecordsFilter
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable, SqlEventLogStorageTable
from dagster._core.storage.runs.schema import RunsTable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adinsights_orchestration.dagster_internals import events, history
from adinsights_orchestration.dagster_internals.events import CheckResult, Materialized
from tests.conftest import PostgresServer, dagster_instance_on

KEY = dg.AssetKey(["airbyte", "meta"])
OLD = datetime(2026, 1, 1, tzinfo=UTC)
LIMIT = datetime(2026, 2, 1, tzinfo=UTC)


@dg.asset
def daily() -> None:
    """An asset that runs materialize."""


@dg.asset_check(asset=daily)
def daily_is_fine() -> dg.AssetCheckResult:
    """A check that runs evaluate."""
    return dg.AssetCheckResult(passed=True)


@dg.op
def note() -> None:
    """An op that materializes nothing."""


@dg.job
def nothing_to_show() -> None:
    """A job whose runs hold no state."""
    note()


DEFINITIONS = dg.Definitions(
    assets=[daily],
    asset_checks=[daily_is_fine],
    jobs=[dg.define_asset_job("build", selection=[daily]), nothing_to_show],
)


def _run(instance: dg.DagsterInstance, job: str, at: datetime | None = OLD) -> str:
    run_id = DEFINITIONS.resolve_job_def(job).execute_in_process(instance=instance).run_id
    if at is not None:
        with instance.run_storage.connect() as connection:  # type: ignore[attr-defined]
            moment = at.replace(tzinfo=None)
            connection.execute(RunsTable.update().where(RunsTable.c.run_id == run_id).values(update_timestamp=moment))
    return run_id


def _prune(instance: dg.DagsterInstance, **options: Any) -> history.Pruned:
    return history.prune_history(instance, runs_before=LIMIT, events_before=LIMIT, **options)


def _count(instance: dg.DagsterInstance, table: sa.Table) -> int:
    with instance.event_log_storage.index_connection() as connection:  # type: ignore[attr-defined]
        return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


def _report(instance: dg.DagsterInstance, partition: str, job_id: int, at: datetime) -> None:
    events.report_materializations(instance, KEY, [Materialized(partition, at, {events.SYNC_ID_KEY: job_id})])


def test_finished_runs_past_their_age_go_and_younger_ones_stay(postgres_instance: dg.DagsterInstance) -> None:
    old = [_run(postgres_instance, "nothing_to_show") for _ in range(5)]
    young = _run(postgres_instance, "nothing_to_show", at=None)
    pruned = _prune(postgres_instance, batch=2)
    assert (pruned.runs, pruned.done) == (5, True)
    assert all(postgres_instance.get_run_by_id(run_id) is None for run_id in old)
    assert postgres_instance.get_run_by_id(young) is not None


def test_the_run_that_holds_an_assets_newest_materialization_stays(postgres_instance: dg.DagsterInstance) -> None:
    first, second, third = (_run(postgres_instance, "build") for _ in range(3))
    pruned = _prune(postgres_instance, batch=1)
    assert (pruned.runs, pruned.runs_kept_for_state) == (2, 1)
    kept = [run_id for run_id in (first, second, third) if postgres_instance.get_run_by_id(run_id) is not None]
    assert kept == [third]
    latest = postgres_instance.get_latest_materialization_event(daily.key)
    assert latest is not None
    assert latest.run_id == third


def test_a_run_that_is_not_finished_is_never_deleted(postgres_instance: dg.DagsterInstance) -> None:
    run = postgres_instance.create_run_for_job(nothing_to_show, status=dg.DagsterRunStatus.STARTED)
    with postgres_instance.run_storage.connect() as connection:  # type: ignore[attr-defined]
        connection.execute(RunsTable.update().values(update_timestamp=OLD.replace(tzinfo=None)))
    assert _prune(postgres_instance).runs == 0
    assert postgres_instance.get_run_by_id(run.run_id) is not None


def _newest_jobs(instance: dg.DagsterInstance, partitions: Iterable[str]) -> dict[str, Any]:
    """The Airbyte job of each partition's newest materialization."""
    latest = events.latest_materializations(instance, KEY, partitions)
    records = instance.event_log_storage.get_event_records(
        EventRecordsFilter(
            dg.DagsterEventType.ASSET_MATERIALIZATION,
            asset_key=KEY,
            storage_ids=[ref.storage_id for ref in latest.values()],
        )
    )
    materializations = [record.asset_materialization for record in records]
    return {one.partition: one.metadata[events.SYNC_ID_KEY].value for one in materializations if one and one.partition}


def test_the_newest_materialization_of_every_partition_stays_however_old(postgres_instance: dg.DagsterInstance) -> None:
    for job_id in range(1, 5):
        _report(postgres_instance, "acme/a", job_id, OLD + timedelta(hours=job_id))
    _report(postgres_instance, "acme/b", 9, OLD)
    pruned = _prune(postgres_instance, batch=2)
    assert (pruned.events, pruned.done) == (3, True)
    assert _newest_jobs(postgres_instance, ["acme/a", "acme/b"]) == {"acme/a": 4, "acme/b": 9}


def test_the_newest_evaluation_of_every_check_and_partition_stays(postgres_instance: dg.DagsterInstance) -> None:
    for passed in (True, True, False):
        results = [CheckResult("acme/a", passed, "a"), CheckResult("acme/b", True, "b")]
        events.report_checks(postgres_instance, KEY, "sync", results, at=OLD)
    pruned = _prune(postgres_instance)
    assert (pruned.check_rows, pruned.events) == (4, 4)
    check = dg.AssetCheckKey(KEY, "sync")
    history_left = postgres_instance.event_log_storage.get_asset_check_execution_history(check, limit=10)
    assert [(record.partition, record.status.value) for record in history_left] == [
        ("acme/b", "SUCCEEDED"),
        ("acme/a", "FAILED"),
    ]


def test_a_check_that_was_only_planned_since_does_not_cost_the_last_evaluation(
    postgres_instance: dg.DagsterInstance,
) -> None:
    events.report_checks(postgres_instance, KEY, "sync", [CheckResult("acme/a", False, "a")], at=OLD)
    planned = {"asset_key": KEY.to_string(), "check_name": "sync", "partition": "acme/a", "run_id": "a failed run"}
    planned |= {"execution_status": "PLANNED", "evaluation_event": "{}"}
    with postgres_instance.event_log_storage.index_connection() as connection:  # type: ignore[attr-defined]
        moment = OLD.replace(tzinfo=None)
        connection.execute(AssetCheckExecutionsTable.insert().values(**planned, evaluation_event_timestamp=moment))
    assert _prune(postgres_instance).check_rows == 0


def test_pruning_stops_at_its_budget_and_the_next_one_goes_on(postgres_instance: dg.DagsterInstance) -> None:
    for job_id in range(6):
        _report(postgres_instance, "acme/a", job_id, OLD)
    turns = iter([True, True, True, False, False, False])
    first = _prune(postgres_instance, batch=2, keep_going=lambda: next(turns))
    assert not first.done
    second = _prune(postgres_instance, batch=2)
    assert second.done
    assert first.events + second.events == 5


def test_pruning_twice_deletes_nothing_more(postgres_instance: dg.DagsterInstance) -> None:
    _run(postgres_instance, "build")
    _report(postgres_instance, "acme/a", 1, OLD)
    _prune(postgres_instance)
    again = _prune(postgres_instance)
    assert (again.runs, again.events, again.check_rows) == (0, 0, 0)


ROUNDS = st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), st.integers(-40, 40)), min_size=1, max_size=12)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ROUNDS)
def test_whatever_was_reported_the_newest_of_each_partition_survives(
    postgres_server: PostgresServer, rounds: list[tuple[str, int]]
) -> None:
    with dagster_instance_on(postgres_server) as instance:
        expected: dict[str, int] = {}
        for job_id, (partition, days) in enumerate(rounds):
            _report(instance, partition, job_id, LIMIT + timedelta(days=days))
            expected[partition] = job_id
        before = _count(instance, SqlEventLogStorageTable)
        pruned = _prune(instance, batch=3)
        assert _newest_jobs(instance, expected) == expected
        assert _count(instance, SqlEventLogStorageTable) == before - pruned.events
        assert _count(instance, AssetCheckExecutionsTable) == 0
