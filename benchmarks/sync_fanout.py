"""How close the ingestion engine comes to what Airbyte itself could do, and what it costs.

N connections are due at once. A local Airbyte in a process of its own runs their syncs in simulated time, with so many
job slots and so many threads for POST /jobs. The engine is what the sensors run: trigger ticks, and beside them, in a
thread of one process as in the daemon, observe ticks with the reports to Dagster; the ledger and Dagster's storage on a
real Postgres. Ideal is what the server needs if nothing is ever late: max(ceil(N / slots) x duration, N x POST /
threads). Beside it, dagster-airbyte on the same kind of server as it is used: `asset`, its `sync_and_poll` as assets
call it, a Dagster run per connection on the same kind of storage; and `client`, the bare poll loop of its client
underneath, which records nothing anywhere.

Time is scaled 1:10 unless told otherwise: the tick of 30 s is 3 s here, the overlap of 120 s is 12 s, dagster-airbyte's
poll of 10 s is 1 s, and a sync of 100 s takes 10 s; what the engine computes is not scaled, so it weighs ten times what
it does in production. `--scale 1` scales nothing. CPU is that of this process alone (for dagster-airbyte, of its
process alone), without imports, set-up and what a process does once; the engine's includes the ledger and the reports,
`asset`'s all runs.

    python -m benchmarks.sync_fanout --connections 100,1000,5000
    python -m benchmarks.sync_fanout --connections 5000 --scale 1 --without-dagster-airbyte
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import dagster as dg
import sqlalchemy as sa

from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.ingestion import observe, trigger
from adinsights_orchestration.ingestion.airbyte_api import api_factory
from adinsights_orchestration.ingestion.deps import Deps
from adinsights_orchestration.ingestion.reporting import report_tick
from adinsights_orchestration.logs import configure_logging
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import cursor, report_batch, sync_intent, sync_job
from adinsights_orchestration.settings import AirbyteSettings, IngestionSettings, Settings
from adinsights_orchestration.tenants.model import (
    Connection,
    Provider,
    Registry,
    Schedule,
    ScheduleType,
    Tenant,
)
from benchmarks._databases import databases
from benchmarks._machine import cpu_seconds, free_port, peak_memory_mb

TICK_SECONDS, OVERLAP_SECONDS, DAGSTER_POLL_SECONDS, SYNC_SECONDS = 30.0, 120.0, 10.0, 100.0  # before scaling
ONCE_A_YEAR = Schedule(ScheduleType.CRON, cron="0 0 1 1 *")  # due now, and not again while this runs
_NAMESPACE = uuid.UUID("6f6d3a40-0000-4000-8000-5a11f4a10001")
WORKSPACE = uuid.uuid5(_NAMESPACE, "workspace")


@dataclass(frozen=True)
class Case:
    """One measurement's parameters; times in seconds."""

    connections: int
    slots: int
    duration: float
    post_ms: int
    post_threads: int
    scale: float = 10.0  # by which the rhythms of both sides are divided
    first: int = 0  # number of the first connection

    @property
    def numbers(self) -> range:
        """The numbers of its connections."""
        return range(self.first, self.first + self.connections)

    @property
    def ideal(self) -> float:
        """What the server needs at least."""
        waves = math.ceil(self.connections / self.slots) * self.duration
        return max(waves, self.connections * self.post_ms / 1000 / self.post_threads)


# -------------------------------------------------------------------------------------------------------------- server


def connection_id(number: int) -> UUID:
    """The id of the n-th connection, the same in every process."""
    return uuid.uuid5(_NAMESPACE, str(number))


def serve(case: Case, port: int) -> None:
    """Runs the server until it is killed."""
    import uvicorn

    from adinsights_orchestration.local.airbyte.app import create_airbyte_app
    from adinsights_orchestration.local.airbyte.model import (
        Actor,
        AirbyteConnection,
        Catalog,
        CatalogStream,
        Workspace,
    )
    from adinsights_orchestration.local.airbyte.simulated import SimulatedExecutor, steady
    from adinsights_orchestration.local.airbyte.world import AirbyteWorld
    from adinsights_orchestration.local.knobs import Knobs
    from adinsights_orchestration.local.serving import bind, server_config

    knobs = Knobs()
    world = AirbyteWorld(knobs)
    knobs.set("airbyte", "post_threads", case.post_threads)
    knobs.set("airbyte", "post_ms", case.post_ms)
    now = utc_now()
    source = Actor(uuid.uuid4(), WORKSPACE, "source", "facebook-marketing", uuid.uuid4(), {}, now)
    destination = Actor(uuid.uuid4(), WORKSPACE, "warehouse", "postgres", uuid.uuid4(), {"schema": "raw"}, now)
    world.resources.put(Workspace(WORKSPACE, "benchmark"), source, destination)
    streams = tuple(CatalogStream(name, {"type": "object", "properties": {}}) for name in ("ad_insights", "campaigns"))
    for number in case.numbers:
        catalog = Catalog(uuid.uuid5(_NAMESPACE, f"catalog {number}"), streams)
        made = AirbyteConnection(
            connection_id(number), WORKSPACE, source.id, destination.id, f"connection {number}", catalog, now
        )
        world.resources.put(made)
    SimulatedExecutor(world, steady(timedelta(seconds=case.duration)), slots=case.slots)
    app = create_airbyte_app(world, knobs)
    server = uvicorn.Server(server_config(app))
    asyncio.run(server.serve(sockets=[bind("127.0.0.1", port)]))


@contextmanager
def server_of(case: Case) -> Iterator[str]:
    """A fresh server in a process of its own; yields its base URL."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.sync_fanout", "--serve", json.dumps(asdict(case)), "--port", str(port)]
    process = subprocess.Popen(command)
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_up(url, process)
        yield url
    finally:
        process.kill()
        process.wait()


def _wait_until_up(url: str, process: subprocess.Popen[bytes]) -> None:
    import httpx

    for _ in range(600):
        if process.poll() is not None:
            raise RuntimeError("the server ended while starting")
        try:
            httpx.get(f"{url}/api/public/v1/health", timeout=1, trust_env=False)
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError("the server did not come up")


# ----------------------------------------------------------------------------------------------------------- the engine


def registry(case: Case) -> Registry:
    """Everybody is due."""
    tenant = Tenant(uuid.uuid5(_NAMESPACE, "tenant"), "Benchmark", "benchmark")
    providers = list(Provider)
    connections = [
        Connection(
            row_id=uuid.uuid5(_NAMESPACE, f"row {number}"),
            tenant_id=tenant.id,
            provider=providers[number % len(providers)],
            name=f"connection {number}",
            connection_id=connection_id(number),
            schedule=ONCE_A_YEAR,
            workspace_id=WORKSPACE,
            partition_key=f"benchmark/{number:05d}",
        )
        for number in case.numbers
    ]
    return Registry((tenant,), tuple(connections), "benchmark", utc_now())


@dataclass
class Ticks:
    """How long ticks took, how many requests each kind sent, and how many syncs Dagster was told of."""

    trigger: list[float]
    observe: list[float]
    started: int = 0
    observed: int = 0
    told: int = 0


def run_engine(
    case: Case, url: str, store: OpsStore, instance: dg.DagsterInstance, patience: float = 5
) -> dict[str, Any]:
    """Runs ticks until every sync is in the ledger and in Dagster; returns what it took."""
    settings = Settings(
        airbyte=AirbyteSettings(
            public_api_url=f"{url}/api/public/v1", config_api_url=f"{url}/api/v1", request_timeout_seconds=15
        ),
        ingestion=IngestionSettings(observe_overlap_seconds=OVERLAP_SECONDS / case.scale),
    )
    # Twice the slots: Airbyte always has the next wave waiting, and the engine never floods it.
    deps = Deps(settings, store, api_factory(settings.airbyte), registry(case), bound=2 * case.slots)
    ticks, before, started = Ticks([], []), cpu_seconds(), time.monotonic()
    with _triggering(deps, case, ticks):
        while ticks.told < case.connections:
            with _rhythm(case, ticks.observe):
                _observe(deps, instance, ticks)
            if time.monotonic() - started > case.ideal * patience:
                raise RuntimeError(f"not done after {patience:g} x ideal: {ticks.told} of {case.connections}")
        wall, cpu = time.monotonic() - started, cpu_seconds() - before
    return {
        "connections": case.connections,
        "ideal_s": round(case.ideal, 2),
        "wall_s": round(wall, 2),
        "wall_over_ideal": round(wall / case.ideal, 3),
        "requests_per_sync": round((ticks.started + ticks.observed) / case.connections, 3),
        "cpu_ms_per_sync": round(cpu / case.connections * 1000, 2),
        "peak_rss_mb": round(peak_memory_mb(), 1),
        "trigger_tick_ms": _quantiles(ticks.trigger),
        "observe_tick_ms": _quantiles(ticks.observe),
        **_exactly_once(store, case),
    }


@contextmanager
def _triggering(deps: Deps, case: Case, ticks: Ticks) -> Iterator[None]:
    """Trigger ticks in a thread of their own, as the daemon's sensors have; a defect of theirs is raised at the end."""
    over = threading.Event()

    def trigger_on() -> None:
        while not over.is_set():
            with _rhythm(case, ticks.trigger, over):
                started = asyncio.run(trigger.tick(deps, utc_now()))
                ticks.started += started.requests
                _say(started.starts.problem)

    with ThreadPoolExecutor(1) as pool:
        work = pool.submit(trigger_on)
        try:
            yield
        finally:
            over.set()
        work.result()


@contextmanager
def _rhythm(case: Case, took: list[float], over: threading.Event | None = None) -> Iterator[None]:
    """One tick of a sensor: it begins every so often, and lasts as long as it lasts."""
    begun = time.monotonic()
    yield
    took.append(time.monotonic() - begun)
    (over or threading.Event()).wait(max(TICK_SECONDS / case.scale - took[-1], 0.0))


def _observe(deps: Deps, instance: dg.DagsterInstance, ticks: Ticks) -> None:
    seen = asyncio.run(observe.tick(deps, utc_now()))
    told = report_tick(instance, deps, utc_now())
    ticks.observed += seen.requests
    ticks.told += told.materialized
    _say(seen.problem)


def _say(problem: str) -> None:
    if problem:
        print(f"  {problem}", file=sys.stderr)


def _exactly_once(store: OpsStore, case: Case) -> dict[str, Any]:
    """Raises unless each connection has one job, which succeeded and was reported: else nothing was measured."""
    with store.begin() as connection:
        jobs = connection.execute(sa.select(sa.func.count()).select_from(sync_job)).scalar_one()
        theirs = connection.execute(sa.select(sa.func.count(sa.distinct(sync_job.c.connection_id)))).scalar_one()
        over = sa.select(sa.func.count()).where(sync_intent.c.state == "succeeded")
        good = connection.execute(over).scalar_one()
        told = sa.select(sa.func.count()).where(sync_job.c.report_state == "reported")
        reported = connection.execute(told).scalar_one()
    if not jobs == theirs == good == reported == case.connections:
        raise RuntimeError(
            f"not exactly once: {case.connections} connections, {jobs} jobs of {theirs} of them, {good} succeeded, "
            f"{reported} reported"
        )
    return {"jobs": jobs, "exactly_once": True}


def _quantiles(seconds: Sequence[float]) -> dict[str, float]:
    cuts = statistics.quantiles(seconds, n=100) if len(seconds) > 1 else [seconds[0]] * 99
    return {"p50": round(cuts[49] * 1000, 1), "p99": round(cuts[98] * 1000, 1), "ticks": len(seconds)}


# ------------------------------------------------------------------------------------------------------ dagster-airbyte


def run_dagster_airbyte(case: Case, way: str) -> dict[str, Any]:
    """Runs dagster-airbyte in a process of its own, on fresh servers, and returns what it took."""
    with databases(), server_of(case) as url:  # the process finds Dagster's storage by DAGSTER_HOME
        command = [
            sys.executable,
            "-W",
            "ignore",
            "-m",
            "benchmarks._dagster_airbyte",
            way,
            json.dumps(asdict(case)),
            url,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"dagster-airbyte failed:\n{done.stderr[-4000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    if found["succeeded"] != case.connections:
        raise RuntimeError(f"dagster-airbyte synced {found['succeeded']} of {case.connections} connections")
    return found


# ------------------------------------------------------------------------------------------------------------- the line


def warm_up(store: OpsStore, instance: dg.DagsterInstance) -> None:
    """What a process does once (connecting, compiling statements, importing lazily) is not what a sync costs."""
    case = Case(connections=6, slots=6, duration=0.5, post_ms=1, post_threads=6, first=1_000_000)
    with server_of(case) as url:
        run_engine(case, url, store, instance, patience=60)
    with store.begin() as connection:
        for table in (sync_job, sync_intent, cursor, report_batch):
            connection.execute(sa.delete(table))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Every case in turn, each on a fresh server and a fresh ledger; then dagster-airbyte on the smallest."""
    with Path(os.devnull).open("w") as nowhere:
        configure_logging(Settings(), "benchmark", stream=nowhere)  # lines cost what they cost in production
        return _measured(options)


def _measured(options: argparse.Namespace) -> dict[str, Any]:
    sizes = [int(one) for one in options.connections.split(",")]
    cases = [
        Case(
            connections=size,
            slots=max(size // options.waves, 1),
            duration=SYNC_SECONDS / options.scale if options.duration is None else options.duration,
            post_ms=options.post_ms,
            post_threads=options.post_threads,
            scale=options.scale,
        )
        for size in sizes
    ]
    runs = []
    for case in cases:
        print(f"{case.connections} connections, ideal {case.ideal:.0f} s", file=sys.stderr)
        with databases() as (store, instance):
            warm_up(store, instance)
            with server_of(case) as url:
                runs.append(run_engine(case, url, store, instance))
        print(f"  {json.dumps(runs[-1])}", file=sys.stderr)
    result: dict[str, Any] = {"benchmark": "sync_fanout", "engine": runs, "parameters": vars(options)}
    if not options.without_dagster_airbyte:
        theirs = {way: run_dagster_airbyte(cases[0], way) for way in ("asset", "client")}
        ours = runs[0]["cpu_ms_per_sync"]
        result["dagster_airbyte"] = theirs
        result["cpu_over_ours"] = {way: round(one["cpu_ms_per_sync"] / ours, 1) for way, one in theirs.items()}
    result["cpu_growth"] = round(runs[-1]["cpu_ms_per_sync"] / runs[0]["cpu_ms_per_sync"], 2)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", default="100,1000,5000", help="sizes, comma separated")
    parser.add_argument("--waves", type=int, default=5, help="connections per job slot")
    parser.add_argument("--scale", type=float, default=10.0, help="how many times faster than in production time goes")
    parser.add_argument("--duration", type=float, help="seconds that a sync takes (default: 100, scaled)")
    parser.add_argument("--post-ms", type=int, default=20, help="milliseconds that POST /jobs occupies a server thread")
    parser.add_argument("--post-threads", type=int, default=5, help="server threads for POST /jobs")
    parser.add_argument("--without-dagster-airbyte", action="store_true")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(Case(**json.loads(options.serve)), options.port)
    else:
        for hidden in ("serve", "port"):
            delattr(options, hidden)
        print(json.dumps(measure(options)))


if __name__ == "__main__":
    main()
