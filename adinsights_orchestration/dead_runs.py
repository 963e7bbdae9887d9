"""The sensor `dead_runs`: a run whose process is gone is marked as failed, within minutes instead of hours.

Belongs here: the Dagster shell around `liveness`. Does not belong here: the decision, and runs that never started
(Dagster's run monitoring ends those). With the default launcher Dagster asks after no worker: a process that died
together with its code server leaves its run "started" until its longest runtime is over, and the place in the run
queue taken for as long. Of a sync's run that is dead but not failed nobody else may report what the sync brought.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager
from datetime import datetime

import dagster as dg

from adinsights_orchestration.clock import Clock, utc_now
from adinsights_orchestration.dagster_internals.runs import (
    StartedRun,
    add_tags,
    fail_started_run,
    is_only_step,
    started_runs,
)
from adinsights_orchestration.environments import Automation
from adinsights_orchestration.liveness import Seen, Suspicion, alive, judge, living, this_worker
from adinsights_orchestration.logs import correlated
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.unattended import declared, sensor_status

WORKER_TAG = "adinsights/worker"
# Jobs with this tag give proof of life in all of their runs; others once they have said who their worker is.
BUILD_TAG_NAME = "adinsights/dbt"
_WATCHED = frozenset((WORKER_TAG, BUILD_TAG_NAME))
# Two looks can fall into two restarts of Postgres. A living run has its lock back within three seconds of each.
_CONFIRMED_AFTER_SECONDS = 6


def build_dead_runs(
    settings: Settings, store: OpsStore, *, clock: Clock = utc_now, wait: Callable[[float], None] = time.sleep
) -> dg.Definitions:
    """Builds the sensor where the environment declares it."""
    unattended = declared(settings, Automation.DEAD_RUNS)
    if unattended is None:
        return dg.Definitions()

    @dg.sensor(
        name=Automation.DEAD_RUNS.value,
        minimum_interval_seconds=unattended.every_seconds,
        default_status=sensor_status(settings, unattended),
        description="Fails runs whose process was killed. Stopped, such a run keeps the next dbt build waiting for up"
        " to two hours.",
        tags={"adinsights/kind": "upkeep"},
    )
    @correlated
    def dead_runs(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        failed, suspected = look(context.instance, store, _read(context.cursor), clock(), wait=wait)
        reason = f"{len(failed)} dead runs marked as failed: {', '.join(sorted(failed))}" if failed else "No dead runs."
        return dg.SensorResult(skip_reason=reason, cursor=_written(suspected))

    return dg.Definitions(sensors=[dead_runs])


def look(
    instance: dg.DagsterInstance,
    store: OpsStore,
    suspected: Mapping[str, Suspicion],
    now: datetime,
    *,
    wait: Callable[[float], None] = time.sleep,
) -> tuple[set[str], Mapping[str, Suspicion]]:
    """Looks at the started runs; returns the ids of those that it failed, and what the next look should know."""
    runs = {run.run_id: run for run in started_runs(instance, _WATCHED)}
    living_runs = alive(store, runs)
    seen = {
        run_id: Seen(run_id in living_runs, WORKER_TAG in run.tags, run.started_at, run.newest_event)
        for run_id, run in runs.items()
    }
    verdict = judge(seen, suspected, now)
    dead = _confirmed(store, verdict.dead, wait)
    return {run_id for run_id in dead if fail_started_run(instance, run_id, _message(runs[run_id]))}, verdict.suspected


def _confirmed(store: OpsStore, dead: Set[str], wait: Callable[[float], None]) -> Set[str]:
    for _ in range(_CONFIRMED_AFTER_SECONDS if dead else 0):
        wait(1.0)
        dead = dead - alive(store, dead)
    return dead


@contextmanager
def proof_of_life(context: dg.OpExecutionContext, store: OpsStore) -> Iterator[None]:
    """Has the run prove, while the block lasts, that its process lives; for the body of an op.

    A run of several steps does not say who its worker is: between its steps it could not prove anything.
    """
    with living(store, context.run_id):
        if is_only_step(context):
            add_tags(context.instance, context.run_id, {WORKER_TAG: this_worker()})
        yield


def _message(run: StartedRun) -> str:
    worker = run.tags.get(WORKER_TAG)
    return (
        f"The process of this run{f' ({worker})' if worker else ''} is gone: it no longer holds its lock in the ops"
        " store and has written nothing since. It was killed, or its machine was restarted. Syncs that it had started"
        " go on in Airbyte and are observed. What else it left undone is done by the next run."
    )


def _read(cursor: str | None) -> dict[str, Suspicion]:
    found = json.loads(cursor) if cursor else {}
    return {run_id: Suspicion(datetime.fromisoformat(since), event) for run_id, (since, event) in found.items()}


def _written(suspected: Mapping[str, Suspicion]) -> str:
    return json.dumps({run_id: [one.since.isoformat(), one.newest_event] for run_id, one in suspected.items()})
