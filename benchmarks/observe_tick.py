"""A backlog of finished jobs, from Airbyte's listing to the last materialization, beside one report per event.

The ticks under test read the local Airbyte API over HTTP (a process of its own), write the ledger and report to
Dagster, all on a real Postgres. The peer is what Dagster offers publicly: `report_runless_asset_event` once per
job, for the same assets and metadata on the same Postgres, measured on a sample and scaled up. Prints one JSON
line.

Targets: at most a tenth of the one-by-one time, and bounded work per tick.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from typing import Any

import dagster as dg
import httpx

from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.ingestion import observe, specs
from adinsights_orchestration.ingestion.airbyte_api import api_factory
from adinsights_orchestration.ingestion.deps import Deps
from adinsights_orchestration.ingestion.ledger.job_rows import as_job_row, job_rows
from adinsights_orchestration.ingestion.reporting import report_tick
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import sync_job
from adinsights_orchestration.settings import AirbyteSettings, Settings
from benchmarks._databases import databases
from benchmarks._machine import cpu_seconds, peak_memory_mb
from benchmarks.sync_fanout import Case, connection_id, registry, server_of


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=5000, help="finished jobs in the backlog, over six assets")
    parser.add_argument("--sample", type=int, default=300, help="single reports that are measured")
    options = parser.parse_args()
    case = Case(options.jobs, slots=options.jobs, duration=0.01, post_ms=0, post_threads=8)
    with databases() as (store, instance), server_of(case) as url:
        _finish_jobs(url, options.jobs)
        deps = _deps(case, url, store)
        figures = _measure(deps, instance, options.jobs)
        with dg.DagsterInstance.from_ref(instance.get_ref()) as stock:  # the other one keeps connections by now
            single = _one_by_one(deps, stock, options.sample)
    one_by_one = single * options.jobs
    print(
        json.dumps(
            {
                "benchmark": "observe_tick",
                **figures,
                "one_by_one_s": round(one_by_one, 1),
                "ratio": round(figures["wall_s"] / one_by_one, 4),
            }
        )
    )


def _measure(deps: Deps, instance: dg.DagsterInstance, jobs: int) -> dict[str, Any]:
    ticks: list[float] = []
    observed = reported = requests = 0
    began, cpu = time.monotonic(), cpu_seconds()
    while reported < jobs:
        tick = time.monotonic()
        report = asyncio.run(observe.tick(deps, utc_now()))
        told = report_tick(instance, deps, utc_now())
        ticks.append(time.monotonic() - tick)
        observed, reported = observed + report.absorbed.finished, reported + told.materialized
        requests += report.requests
        if report.problem:
            raise RuntimeError(report.problem)
    wall = time.monotonic() - began
    _refuse_wrong_count(deps, instance, jobs)
    return {
        "jobs": jobs,
        "wall_s": round(wall, 2),
        "cpu_s": round(cpu_seconds() - cpu, 2),
        "ticks": len(ticks),
        "longest_tick_s": round(max(ticks), 2),
        "jobs_per_tick_at_most": deps.settings.ingestion.observe_max_jobs_per_tick,
        "requests": requests,
        "peak_memory_mb": round(peak_memory_mb()),
    }


def _refuse_wrong_count(deps: Deps, instance: dg.DagsterInstance, jobs: int) -> None:
    materialized = sum(
        len(instance.get_materialized_partitions(specs.asset_key(provider)))
        for provider in {one.provider for one in deps.registry.connections}
    )
    if materialized != jobs:
        raise RuntimeError(f"{materialized} of {jobs} partitions are materialized")


def _one_by_one(deps: Deps, instance: dg.DagsterInstance, sample: int) -> float:
    """Seconds per event of Dagster's public way, with the same metadata."""
    with deps.store.begin() as connection:
        rows = [as_job_row(row) for row in connection.execute(job_rows().order_by(sync_job.c.job_id).limit(sample))]
    began = time.monotonic()
    for job in rows:
        metadata = specs.sync_metadata(job, None, deps.settings)
        key = specs.asset_key(job.provider)
        instance.report_runless_asset_event(
            dg.AssetMaterialization(key, partition=job.partition_key, metadata=metadata)
        )
    return (time.monotonic() - began) / len(rows)


def _finish_jobs(url: str, count: int) -> None:
    """Starts a job of every connection and waits until the server has finished them all."""
    with httpx.Client(base_url=f"{url}/api/public/v1", timeout=30) as client:
        for number in range(count):
            body = {"connectionId": str(connection_id(number)), "jobType": "sync"}
            client.post("/jobs", json=body).raise_for_status()
        while client.get("/jobs", params={"status": "running", "limit": 1}).json()["data"]:
            time.sleep(0.2)


def _deps(case: Case, url: str, store: OpsStore) -> Deps:
    airbyte = AirbyteSettings(public_api_url=f"{url}/api/public/v1", config_api_url=f"{url}/api/v1")
    settings = Settings(airbyte=airbyte)
    return Deps(settings, store, api_factory(airbyte), registry(case), bound=case.connections)


if __name__ == "__main__":
    main()
