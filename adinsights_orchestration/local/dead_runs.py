"""Runs whose processes died with the local stack, told to Dagster as failed.

Belongs here: that one correction. Does not belong here: anything about runs of a stack that is up. Dagster's default
launcher cannot ask after a worker: a run that was killed together with its code server stays "started" until its
longest runtime is over, and a dbt build that is dead keeps the one place for builds until then.
"""

from __future__ import annotations

import dagster as dg

_AT_WORK = (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)
_MESSAGE = "The local stack was killed while this run was at work. Its syncs go on in Airbyte and are observed."


def fail_dead_runs(instance: dg.DagsterInstance) -> int:
    """Fails every run that says it is at work and returns how many; only for when no process of the stack runs."""
    runs = instance.get_runs(dg.RunsFilter(statuses=list(_AT_WORK)))
    for run in runs:
        if run.status is dg.DagsterRunStatus.CANCELING:
            instance.report_run_canceled(run, _MESSAGE)
        else:
            instance.report_run_failed(run, _MESSAGE)
    return len(runs)
