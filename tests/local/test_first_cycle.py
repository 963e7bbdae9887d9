"""What `up` says of the automation's first cycle: what it is at, and when there is nothing more to wait for."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster._core.test_utils import create_run_for_test
from pydantic import SecretStr

from adinsights_orchestration.local import first_cycle
from adinsights_orchestration.local.first_cycle import FollowError, Look, look
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import dbt_invocation, sync_intent, sync_job
from adinsights_orchestration.settings import RegistrySource, Settings
from adinsights_orchestration.tenants.refresh import refresh
from adinsights_orchestration.tenants.store import load_registry

SINCE = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
LATER = SINCE + timedelta(seconds=40)
CONNECTION = UUID("22222222-2222-4222-8222-222222222222")
REGISTRY = f"""
tenants:
  - id: 11111111-1111-4111-8111-111111111111
    name: Acme Jamaica Ltd
    connections:
      - {{provider: meta, name: Meta Ads, connection_id: {CONNECTION}, schedule: {{cron: "0 * * * *"}}}}
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """An hourly connection, and a place for run results where nothing was published yet."""
    file = tmp_path / "registry.yaml"
    file.write_text(REGISTRY)
    settings = Settings()
    return settings.model_copy(
        update={
            "registry": settings.registry.model_copy(update={"source": RegistrySource.YAML, "yaml_path": file}),
            "dbt": settings.dbt.model_copy(update={"run_results_path": tmp_path / "run_results.json"}),
        }
    )


@pytest.fixture
def dagster() -> Iterator[dg.DagsterInstance]:
    """A Dagster in which nothing runs."""
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


class Automation:
    """What the automation has done so far, as the ops store and Dagster show it."""

    def __init__(self, settings: Settings, store: OpsStore, instance: dg.DagsterInstance) -> None:
        self.settings, self.store, self.instance = settings, store, instance

    def look(self, now: datetime = LATER) -> Look:
        return look(self.settings, self.store, self.instance, SINCE, now)

    def reads_registry(self, at: datetime = SINCE) -> None:
        assert refresh(self.settings, self.store, at).error is None

    def plans(self, state: str, slot: datetime) -> None:
        key = load_registry(self.store).connections[0].partition_key
        values = {"connection_id": CONNECTION, "partition_key": key, "due_slot": slot, "reason": "schedule"}
        job = 7 if state == "running" else None
        self._insert(sync_intent, **values, state=state, job_id=job, created_at=SINCE, updated_at=SINCE)

    def syncs(self, started: datetime) -> None:
        values = {"job_id": 7, "connection_id": CONNECTION, "partition_key": "acme/meta", "provider": "meta"}
        values |= {"tenant_id": UUID(int=1), "job_type": "sync", "status": "succeeded", "started_by": "orchestrator"}
        moments = dict.fromkeys(("ended_at", "first_observed_at", "observed_at"), started + timedelta(seconds=5))
        self._insert(sync_job, **values, started_at=started, **moments)

    def builds(self, started: datetime, models: int = 18, *, succeeded: bool = True) -> None:
        values = {"invocation_id": str(started), "run_id": "r", "command": "build", "full_refresh": False}
        values |= {"completed": True, "succeeded": succeeded, "generated_at": started, "elapsed_seconds": 6.0}
        self._insert(dbt_invocation, **values, started_at=started, models=models)

    def publishes(self) -> None:
        self.settings.dbt.run_results_path.write_text("{}")

    def _insert(self, table: sa.Table, **values: Any) -> None:
        with self.store.begin() as connection:
            connection.execute(sa.insert(table).values(values))


@pytest.fixture
def automation(settings: Settings, ops_store: OpsStore, dagster: dg.DagsterInstance) -> Automation:
    return Automation(settings, ops_store, dagster)


SLOT = datetime(2026, 3, 1, 12, tzinfo=UTC)  # the newest one


def test_before_the_registry_was_read_nothing_is_known(automation: Automation) -> None:
    assert automation.look() == Look("the registry is about to be read")
    automation.reads_registry(at=SINCE - timedelta(hours=1))  # of an earlier `up`
    assert automation.look() == Look("the registry is about to be read")


def test_a_connection_without_a_sync_since_its_slot_is_due(automation: Automation) -> None:
    automation.reads_registry()
    assert automation.look() == Look("1 connection is due")
    automation.syncs(SLOT - timedelta(minutes=30))
    assert automation.look() == Look("1 connection is due")


@pytest.mark.parametrize(
    ("state", "words"),
    [("planned", "1 waits for a slot"), ("starting", "1 sync runs"), ("running", "1 sync runs")],
)
def test_planned_and_running_syncs_are_told_apart(automation: Automation, state: str, words: str) -> None:
    automation.reads_registry()
    automation.plans(state, SLOT)
    assert automation.look() == Look(words)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (dg.DagsterRunStatus.NOT_STARTED, "a dbt build is queued"),
        (dg.DagsterRunStatus.STARTING, "a dbt build is starting"),
        (dg.DagsterRunStatus.STARTED, "dbt is building"),
    ],
)
def test_a_dbt_build_is_told_from_its_run(automation: Automation, status: dg.DagsterRunStatus, words: str) -> None:
    create_run_for_test(automation.instance, status=status, tags={"adinsights/dbt": "build"})
    create_run_for_test(automation.instance, status=dg.DagsterRunStatus.STARTED)  # of something else
    assert automation.look() == Look(words)


def test_data_that_no_good_build_has_taken_waits_for_the_sensor(automation: Automation) -> None:
    automation.reads_registry()
    automation.syncs(SLOT)
    waits = Look("new data waits for the next look of the sensor dbt_refresh")
    assert automation.look() == waits
    automation.builds(SLOT - timedelta(minutes=1))
    automation.builds(SLOT + timedelta(minutes=1), succeeded=False)
    assert automation.look() == waits


def test_a_build_counts_once_it_is_published_and_only_a_new_one(automation: Automation) -> None:
    automation.reads_registry()
    automation.syncs(SLOT)
    automation.publishes()
    automation.builds(SINCE - timedelta(minutes=1))
    automation.builds(SINCE + timedelta(seconds=1), models=0)  # a look at the sources' freshness builds nothing
    assert automation.look().build is None
    automation.builds(SINCE + timedelta(seconds=2))
    assert (automation.look().build or {})["models"] == 18


def test_a_new_build_that_is_not_published_is_waited_for(automation: Automation) -> None:
    automation.reads_registry()
    automation.syncs(SLOT)
    automation.builds(SINCE + timedelta(seconds=2))
    assert automation.look().build is None


def test_where_nothing_is_due_there_is_no_cycle_to_wait_for(automation: Automation) -> None:
    automation.reads_registry()
    automation.syncs(SLOT)
    automation.builds(SLOT + timedelta(minutes=1))
    assert automation.look(SINCE + timedelta(seconds=10)) == Look("nothing is due so far")
    key = load_registry(automation.store).connections[0].partition_key
    at_rest = automation.look()
    assert at_rest == Look(f"nothing is due now; the next sync is {key} at 13:00 UTC", idle=True)


def test_a_slot_that_was_planned_and_came_to_nothing_is_not_waited_for(automation: Automation) -> None:
    automation.reads_registry()
    automation.plans("failed", SLOT)
    assert automation.look().idle


def test_a_stack_that_is_stopped_meanwhile_is_no_defect(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = settings.ops_store.model_copy(update={"dsn": SecretStr("postgresql://nobody@127.0.0.1:9/nothing")})
    monkeypatch.setattr(dg.DagsterInstance, "get", dg.DagsterInstance.ephemeral)
    with pytest.raises(FollowError, match="stopped while its first cycle was shown"):
        first_cycle.follow(settings.model_copy(update={"ops_store": gone}), print, since=SINCE)
