"""Runs that a kill cut off are failed by the next start, so that none keeps its place for hours."""

from __future__ import annotations

import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test, instance_for_test

from adinsights_orchestration.local.dead_runs import fail_dead_runs

S = dg.DagsterRunStatus


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        (S.STARTING, S.FAILURE),
        (S.STARTED, S.FAILURE),
        (S.CANCELING, S.CANCELED),
        (S.NOT_STARTED, S.NOT_STARTED),
        (S.SUCCESS, S.SUCCESS),
        (S.FAILURE, S.FAILURE),
    ],
)
def test_only_what_says_that_it_is_at_work_is_ended(was: dg.DagsterRunStatus, becomes: dg.DagsterRunStatus) -> None:
    with instance_for_test() as instance:
        run = create_run_for_test(instance, job_name="dbt_build", status=was)
        dead = fail_dead_runs(instance)
        after = instance.get_run_by_id(run.run_id)
        assert after is not None
        assert (after.status, dead) == (becomes, int(was is not becomes))
        assert fail_dead_runs(instance) == 0
