"""The pruning job: it deletes what is old, keeps what is not, and says what it did."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import dagster as dg
import pytest
from dagster._core.storage.runs.schema import RunsTable

from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.environments import Automation
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import DagsterSettings, Settings
from adinsights_orchestration.upkeep import build_upkeep
from tests.conftest import PostgresServer, dagster_instance_on

SETTINGS = Settings(dagster=DagsterSettings(keep_runs_days=30, keep_runless_events_days=30))


@pytest.fixture(scope="module")
def instance(postgres_server: PostgresServer) -> Iterator[dg.DagsterInstance]:
    with dagster_instance_on(postgres_server) as one:
        yield one


@dg.job
def forgotten() -> None:
    """A job whose runs hold no state."""


def _old_run(instance: dg.DagsterInstance, days: int) -> str:
    run_id = forgotten.execute_in_process(instance=instance).run_id
    moment = (utc_now() - timedelta(days=days)).replace(tzinfo=None)
    with instance.run_storage.connect() as connection:  # type: ignore[attr-defined]
        connection.execute(RunsTable.update().where(RunsTable.c.run_id == run_id).values(update_timestamp=moment))
    return run_id


def _prune(instance: dg.DagsterInstance, ops_store: OpsStore, **config: int) -> dict[str, object]:
    """Runs the job and returns the metadata of its only step."""
    job = build_upkeep(SETTINGS, ops_store).resolve_job_def(Automation.PRUNE.value)
    result = job.execute_in_process(run_config={"ops": {"prune": {"config": config}}}, instance=instance)
    assert result.success
    (output,) = [event for event in result.all_events if event.is_successful_output]
    return {name: value.value for name, value in output.step_output_data.metadata.items()}


def test_it_prunes_by_the_environments_settings_and_says_what_it_deleted(
    instance: dg.DagsterInstance, ops_store: OpsStore
) -> None:
    old, young = _old_run(instance, days=31), _old_run(instance, days=29)
    told = _prune(instance, ops_store)
    assert told["runs deleted"] == 1
    assert told["finished"] is True
    assert told.keys() == {
        "runs deleted",
        "runs kept because they hold an asset's newest state",
        "events deleted",
        "check results deleted",
        "runs whose output and stored results were deleted",
        "could not be deleted",
        "finished",
    }
    assert told["could not be deleted"] == "nothing"
    assert instance.get_run_by_id(old) is None
    assert instance.get_run_by_id(young) is not None


def test_a_run_may_prune_further_than_the_settings_say(instance: dg.DagsterInstance, ops_store: OpsStore) -> None:
    young = _old_run(instance, days=10)
    _prune(instance, ops_store)
    assert instance.get_run_by_id(young) is not None
    _prune(instance, ops_store, keep_runs_days=5)
    assert instance.get_run_by_id(young) is None


def test_without_time_it_stops_and_says_that_it_is_not_done(instance: dg.DagsterInstance, ops_store: OpsStore) -> None:
    old = _old_run(instance, days=40)
    assert _prune(instance, ops_store, budget_minutes=0)["finished"] is False
    assert instance.get_run_by_id(old) is not None
