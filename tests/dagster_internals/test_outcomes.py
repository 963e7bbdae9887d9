"""Ends of runs as Dagster itself writes them: retries, order, places; and states of automations."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    ScheduleInstigatorData,
    SensorInstigatorData,
)
from dagster._core.test_utils import instance_for_test

from adinsights_orchestration.dagster_internals.outcomes import Automation, automations, run_ends
from tests.conftest import PostgresServer, dagster_instance_on

NOON = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)


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


def test_what_was_switched_off_and_when_a_sensor_ticked_last_is_known(retrying: dg.DagsterInstance) -> None:
    assert automations(retrying) == {}
    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("monitoring"), "__repository__")
    tick = SensorInstigatorData(last_tick_timestamp=NOON.timestamp(), min_interval=30)
    cron = ScheduleInstigatorData("0 3 * * *")
    for name, kind, status, data in (
        ("health_probe", InstigatorType.SENSOR, InstigatorStatus.RUNNING, tick),
        ("alert_deliver", InstigatorType.SENSOR, InstigatorStatus.STOPPED, tick),
        ("dbt_nightly", InstigatorType.SCHEDULE, InstigatorStatus.STOPPED, cron),
    ):
        origin = RemoteInstigatorOrigin(repository, name)
        retrying.add_instigator_state(InstigatorState(origin, kind, status, data))
    assert automations(retrying) == {
        "health_probe": Automation("health_probe", False, NOON),
        "alert_deliver": Automation("alert_deliver", True, NOON),
        "dbt_nightly": Automation("dbt_nightly", True, None),
    }
