"""Ends of runs and results of checks as Dagster itself writes them: retries, order, places, runs that die."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationPlanned
from dagster._core.events import DagsterEvent, DagsterEventType
from dagster._core.test_utils import create_run_for_test, instance_for_test

from adinsights_orchestration.dagster_internals.outcomes import failed_checks, run_ends
from tests.conftest import PostgresServer, dagster_instance_on


@pytest.fixture
def retrying() -> Iterator[dg.DagsterInstance]:
    with instance_for_test(overrides={"run_retries": {"enabled": True}}) as instance:
        yield instance


def _run(instance: dg.DagsterInstance, name: str, *, fails: bool, **tags: str) -> None:
    @dg.op(name=f"{name}_op")
    def work() -> None:
        if fails:
            raise ValueError("boom")

    @dg.job(name=name)
    def made() -> None:
        work()

    named = {key.replace("__", "/"): value for key, value in tags.items()}
    made.execute_in_process(instance=instance, raise_on_error=False, tags=named)


def test_a_failure_says_whether_dagster_tries_again(retrying: dg.DagsterInstance) -> None:
    _run(retrying, "again", fails=True, dagster__max_retries="2")
    _run(retrying, "never", fails=True)
    _run(retrying, "fine", fails=False)
    ends, place = run_ends(retrying, 0)
    assert [(end.job, end.succeeded, end.retried) for end in ends] == [
        ("again", False, True),
        ("never", False, False),
        ("fine", True, False),
    ]
    assert all(end.id <= place for end in ends)
    assert run_ends(retrying, place)[0] == []


def test_ends_are_read_from_postgres_in_the_order_of_the_log(postgres_server: PostgresServer) -> None:
    with dagster_instance_on(postgres_server) as instance:
        for number in range(3):
            _run(instance, f"job{number}", fails=number == 1)
        ends, place = run_ends(instance, 0)
        assert [(end.job, end.succeeded) for end in ends] == [("job0", True), ("job1", False), ("job2", True)]
        assert ends[1].error.startswith('Execution of run for "job1" failed')
        assert run_ends(instance, ends[1].id) == (ends[2:], place)


@pytest.fixture(params=["sqlite", "postgres"])
def either(request: pytest.FixtureRequest, postgres_server: PostgresServer) -> Iterator[dg.DagsterInstance]:
    with instance_for_test() if request.param == "sqlite" else dagster_instance_on(postgres_server) as instance:
        yield instance


KEY = dg.AssetKey(["marts", "x"])
ROWS, NAMES = dg.AssetCheckKey(KEY, "rows"), dg.AssetCheckKey(dg.AssetKey("y"), "names")


def _judged(instance: dg.DagsterInstance, check: dg.AssetCheckKey, *, ok: bool, **more: Any) -> None:
    described = None if ok else f"{check.name} are missing"
    instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(check.asset_key, check.name, ok, {}, description=described, **more)
    )


def _planned(instance: dg.DagsterInstance, check: dg.AssetCheckKey) -> str:
    """A run that is to evaluate the check, as Dagster writes it when the run is made."""
    run = create_run_for_test(instance, job_name="dbt_refresh")
    planned = AssetCheckEvaluationPlanned(asset_key=check.asset_key, check_name=check.name)
    event = DagsterEvent(
        DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED.value, run.job_name, event_specific_data=planned
    )
    instance.report_dagster_event(event, run.run_id)
    return run.run_id


def _failing(instance: dg.DagsterInstance) -> list[tuple[str, str]]:
    asked = [(check.asset_key.to_user_string(), check.name) for check in (ROWS, NAMES)]
    return [(one.asset, one.check) for one in failed_checks(instance, asked)]


def test_a_run_that_is_to_evaluate_a_check_says_nothing_of_it_before_it_did(either: dg.DagsterInstance) -> None:
    for check in (ROWS, NAMES):
        _judged(either, check, ok=False)
    run_id = _planned(either, ROWS)
    assert _failing(either) == [("marts/x", "rows"), ("y", "names")]
    (failed, _) = failed_checks(either, [("marts/x", "rows"), ("y", "names")])
    assert (failed.detail, failed.run_id) == ("rows are missing", "")
    either.report_run_failed(either.get_run_by_id(run_id))  # type: ignore[arg-type]
    assert _failing(either) == [("marts/x", "rows"), ("y", "names")], "it died before it evaluated anything"
    _judged(either, ROWS, ok=True)
    _judged(either, NAMES, ok=False, severity=dg.AssetCheckSeverity.WARN)
    assert _failing(either) == []


def test_the_newest_evaluation_is_the_one_that_dagster_calls_the_newest(either: dg.DagsterInstance) -> None:
    for ok in (True, False, True, False):
        _judged(either, ROWS, ok=ok)
    _planned(either, ROWS)
    _judged(either, dg.AssetCheckKey(KEY, "names"), ok=False)  # has the asset of one, and the name of another
    (summary,) = either.event_log_storage.get_asset_check_summary_records([ROWS]).values()
    newest = summary.last_completed_check_execution_record
    assert newest is not None
    assert newest.event is not None
    (failed,) = failed_checks(either, [("marts/x", "rows"), ("y", "names")])
    assert failed.at.timestamp() == pytest.approx(newest.event.timestamp)
    assert failed.run_id == newest.run_id
    assert failed_checks(either, []) == []
