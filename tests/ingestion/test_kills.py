"""SIGKILL at any moment: afterwards no sync is lost, doubled, cancelled or reported twice."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
import time
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.ingestion import ledger, observe, trigger
from adinsights_orchestration.local.airbyte.app import create_airbyte_app
from adinsights_orchestration.local.airbyte.model import JobStatus
from adinsights_orchestration.local.airbyte.simulated import SimulatedExecutor, steady
from adinsights_orchestration.local.airbyte.world import AirbyteWorld
from adinsights_orchestration.local.knobs import Knobs
from adinsights_orchestration.local.serving import running
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import sync_intent, sync_job
from adinsights_orchestration.tenants.model import Provider
from tests.ingestion.killed_ticks import deps as process_deps
from tests.local.airbyte_support import add_connection, add_workspace

ROOT = Path(__file__).resolve().parents[2]
SYNC = timedelta(seconds=0.4)
CONNECTIONS = 30


class ShiftingClock:
    """The server's clock: real time, plus jumps that the test makes between two lives of the process."""

    def __init__(self) -> None:
        self.shift = timedelta()

    def __call__(self) -> Any:
        return utc_now() + self.shift


def life(arguments: dict[str, Any], seconds: float) -> None:
    """Starts the process, lets it work for a moment, and kills it."""
    command = [sys.executable, "-m", "tests.ingestion.killed_ticks", json.dumps(arguments)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(seconds)
    finally:
        process.kill()
        process.wait()


def report(store: OpsStore, reported: Counter[int]) -> None:
    """What the Dagster shell does with finished jobs: take a batch, tell, finish it."""
    now = utc_now()
    for provider in Provider:
        with store.begin() as connection:
            jobs = [job.job_id for job in ledger.pending_reports(connection, provider, 500)]
            batch = ledger.begin_report_batch(connection, provider, jobs, 0, now)
        reported.update(job.job_id for job in batch.jobs)
        with store.begin() as connection:
            ledger.finish_report_batch(connection, batch.id, jobs, now)


def intent_states(store: OpsStore) -> Counter[str]:
    with store.begin() as connection:
        return Counter(connection.execute(sa.select(sync_intent.c.state)).scalars())


SEEDS = [1, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(2, 23))]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_process_killed_again_and_again_loses_doubles_and_cancels_nothing(ops_store: OpsStore, seed: int) -> None:
    rng, clock, knobs = random.Random(seed), ShiftingClock(), Knobs()
    world = AirbyteWorld(knobs, clock=clock)
    workspace = add_workspace(world)
    made = [add_connection(world, workspace, f"Connection {number}") for number in range(CONNECTIONS)]
    SimulatedExecutor(world, steady(SYNC), slots=8)
    knobs.set("airbyte", "post_ms", 15)
    reported: Counter[int] = Counter()
    with running(create_airbyte_app(world, knobs)) as url:
        arguments: dict[str, Any] = {
            "url": url,
            "dsn": ops_store._settings.dsn.get_secret_value(),
            "workspace": str(workspace),
            "registry": [{"id": str(one.id)} for one in made],
            "seed": seed,
            "shift": 0.0,
        }
        for _ in range(8):
            knobs.set("airbyte", "post_lost_reply_next", rng.choice([0, 0, 2]))
            life(arguments, rng.uniform(0.05, 0.6))
            report(ops_store, reported)
            jump = rng.choice([0, 40, 200])  # what is lost is found sooner, what was never made is concluded later
            clock.shift += timedelta(seconds=jump)
            arguments["shift"] += jump
        knobs.set("airbyte", "post_lost_reply_next", 0)
        _finish(process_deps(arguments), clock, arguments, ops_store, reported)
    assert intent_states(ops_store) == {"succeeded": CONNECTIONS}
    jobs = list(world.jobs)
    assert Counter(job.connection_id for job in jobs) == {one.id: 1 for one in made}
    assert {job.status for job in jobs} == {JobStatus.SUCCEEDED}
    assert reported == {job.id: 1 for job in jobs}
    with ops_store.begin() as connection:
        by_whom = Counter(connection.execute(sa.select(sync_job.c.started_by)).scalars())
    assert by_whom == {"orchestrator": CONNECTIONS}


def _finish(
    parts: Any, clock: ShiftingClock, arguments: dict[str, Any], store: OpsStore, reported: Counter[int]
) -> None:
    """Lets an undisturbed process come to the end of it."""
    for _ in range(40):
        asyncio.run(trigger.tick(parts, clock()))
        asyncio.run(observe.tick(parts, clock()))
        report(store, reported)
        if intent_states(store) == {"succeeded": CONNECTIONS}:
            break
        clock.shift += timedelta(seconds=20)
    parts.store.dispose()
