"""Ends of runs as Dagster itself writes them: retries, order, places."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest
from dagster._core.test_utils import instance_for_test

from adinsights_orchestration.dagster_internals.outcomes import run_ends
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
