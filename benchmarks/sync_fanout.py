"""How close the ingestion engine comes to what Airbyte itself could do, and what it costs.

N connections are due at once. A local Airbyte in a process of its own runs their syncs in simulated time, with so many
job slots and so many threads for POST /jobs. The engine is what a sensor runs: trigger and observe ticks, on a real
Postgres. Ideal is what the server needs if nothing is ever late: max(ceil(N / slots) x duration, N x POST / threads).
Beside it, dagster-airbyte on the same server, in threads of one process: its `sync_and_poll` as assets call it, in a
Dagster run per connection, and the bare poll loop of its client underneath, which records nothing anywhere.

Time is scaled 1:10: the tick of 30 s is 3 s here, the overlap of 120 s is 12 s, dagster-airbyte's poll of 10 s is 1 s,
and a sync of 100 s takes 10 s. CPU is that of this process alone (for dagster-airbyte, of its process alone), without
imports and set-up; the engine's includes its ledger, but not the reports to Dagster (`observe_tick` measures those).

    python -m benchmarks.sync_fanout --connections 100,1000,5000
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from pydantic import SecretStr

from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.ingestion import observe, trigger
from adinsights_orchestration.ingestion.airbyte_api import api_factory
from adinsights_orchestration.ingestion.deps import Deps
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import sync_intent, sync_job
from adinsights_orchestration.settings import AirbyteSettings, IngestionSettings, OpsStoreSettings, Settings
from adinsights_orchestration.tenants.model import (
    Connection,
    Provider,
    Registry,
    Schedule,
    ScheduleType,
    Tenant,
)

SCALE = 10.0
TICK_SECONDS = 30 / SCALE
OVERLAP_SECONDS = 120 / SCALE
DAGSTER_POLL_SECONDS = 10 / SCALE
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
    for number in range(case.connections):
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
    port = _free_port()
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


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# ----------------------------------------------------------------------------------------------------------- the engine


@contextmanager
def an_ops_store() -> Iterator[OpsStore]:
    """A migrated ops store on an embedded Postgres of its own."""
    from adinsights_orchestration.local.postgres import EmbeddedPostgres

    with tempfile.TemporaryDirectory(prefix="adinsights-bench-") as folder:
        Path(folder).chmod(0o755)  # root runs the server as another user
        server = EmbeddedPostgres(Path(folder) / "pg", _free_port(), die_with_parent=True)
        server.start()
        try:
            store = OpsStore(OpsStoreSettings(dsn=SecretStr(server.create_database("ops"))))
            store.migrate()
            yield store
            store.dispose()
        finally:
            server.stop()


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
        for number in range(case.connections)
    ]
    return Registry((tenant,), tuple(connections), "benchmark", utc_now())


@dataclass
class Ticks:
    """How long ticks took, what they sent, and how many syncs they saw the end of."""

    trigger: list[float]
    observe: list[float]
    requests: int = 0
    finished: int = 0


def run_engine(case: Case, url: str, store: OpsStore, patience: float = 5) -> dict[str, Any]:
    """Runs ticks until every sync is in the ledger; returns what it took."""
    settings = Settings(
        airbyte=AirbyteSettings(
            public_api_url=f"{url}/api/public/v1", config_api_url=f"{url}/api/v1", request_timeout_seconds=15
        ),
        ingestion=IngestionSettings(observe_overlap_seconds=OVERLAP_SECONDS),
    )
    # Twice the slots: Airbyte always has the next wave waiting, and the engine never floods it.
    deps = Deps(settings, store, api_factory(settings.airbyte), registry(case), bound=2 * case.slots)
    ticks, before = Ticks([], []), resource.getrusage(resource.RUSAGE_SELF)
    started = time.monotonic()
    while ticks.finished < case.connections:
        _one_round(deps, ticks)
        if time.monotonic() - started > case.ideal * patience:
            raise RuntimeError(f"not done after {patience:g} x ideal: {ticks.finished} of {case.connections}")
    wall = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "connections": case.connections,
        "ideal_s": round(case.ideal, 2),
        "wall_s": round(wall, 2),
        "wall_over_ideal": round(wall / case.ideal, 3),
        "requests_per_sync": round(ticks.requests / case.connections, 3),
        "cpu_ms_per_sync": round(cpu / case.connections * 1000, 2),
        "peak_rss_mb": round(after.ru_maxrss / 1024, 1),
        "trigger_tick_ms": _quantiles(ticks.trigger),
        "observe_tick_ms": _quantiles(ticks.observe),
        **_exactly_once(store, case),
    }


def _one_round(deps: Deps, ticks: Ticks) -> None:
    """A sensor's rhythm: both ticks begin every so often, each lasting as long as it lasts."""
    begun = time.monotonic()
    seen = asyncio.run(observe.tick(deps, datetime.now(UTC)))
    observed = time.monotonic()
    started = asyncio.run(trigger.tick(deps, datetime.now(UTC)))
    ended = time.monotonic()
    ticks.observe.append(observed - begun)
    ticks.trigger.append(ended - observed)
    ticks.requests += seen.requests + started.requests
    ticks.finished += seen.absorbed.finished
    if seen.problem or started.starts.stopped:
        print(f"  {seen.problem} {started.starts.stopped}", file=sys.stderr)
    time.sleep(max(TICK_SECONDS - (ended - begun), 0.0))


def _exactly_once(store: OpsStore, case: Case) -> dict[str, Any]:
    """Nothing is worth measuring that did not do its work."""
    with store.begin() as connection:
        jobs = connection.execute(sa.select(sa.func.count()).select_from(sync_job)).scalar_one()
        theirs = connection.execute(sa.select(sa.func.count(sa.distinct(sync_job.c.connection_id)))).scalar_one()
        over = sa.select(sa.func.count()).where(sync_intent.c.state == "succeeded")
        good = connection.execute(over).scalar_one()
    return {"jobs": jobs, "exactly_once": jobs == theirs == good == case.connections}


def _quantiles(seconds: Sequence[float]) -> dict[str, float]:
    cuts = statistics.quantiles(seconds, n=100) if len(seconds) > 1 else [seconds[0]] * 99
    return {"p50": round(cuts[49] * 1000, 1), "p99": round(cuts[98] * 1000, 1), "ticks": len(seconds)}


# ------------------------------------------------------------------------------------------------------ dagster-airbyte


def run_dagster_airbyte(case: Case, way: str) -> dict[str, Any]:
    """Runs dagster-airbyte in a process of its own, on a fresh server, and returns what it took."""
    with server_of(case) as url:
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.sync_fanout", "--dagster-airbyte", way]
        command += ["--serve", json.dumps(asdict(case)), "--url", url]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"dagster-airbyte failed:\n{done.stderr[-4000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def dagster_airbyte(case: Case, url: str, way: str) -> None:
    """Syncs every connection at once, one thread each, and prints what it took."""
    from concurrent.futures import ThreadPoolExecutor

    from dagster_airbyte import AirbyteWorkspace

    workspace = AirbyteWorkspace(
        rest_api_base_url=f"{url}/api/public/v1",
        configuration_api_base_url=f"{url}/api/v1",
        workspace_id=str(WORKSPACE),
        poll_interval=DAGSTER_POLL_SECONDS,
        request_timeout=60,
        cancel_on_termination=False,
    )
    works = _as_assets(workspace) if way == "asset" else _as_client(workspace, case)
    sent = _counted_requests()
    before, started = time.process_time(), time.monotonic()
    with ThreadPoolExecutor(case.connections) as pool:
        good = sum(pool.map(lambda work: work(), works))
    wall, cpu = time.monotonic() - started, time.process_time() - before
    result = {
        "connections": case.connections,
        "succeeded": good,
        "wall_over_ideal": round(wall / case.ideal, 3),
        "requests_per_sync": round(len(sent) / case.connections, 3),
        "cpu_ms_per_sync": round(cpu / case.connections * 1000, 2),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }
    print(json.dumps(result))


def _as_client(workspace: Any, case: Case) -> list[Callable[[], bool]]:
    """The client's poll loop, one per connection."""

    def work(number: int) -> bool:
        try:
            workspace.get_client().sync_and_poll(connection_id=str(connection_id(number)))
        except Exception:  # noqa: BLE001  (counted: it gives up on what the engine takes in its stride)
            return False
        return True

    return [partial(work, number) for number in range(case.connections)]


def _as_assets(workspace: Any) -> list[Callable[[], bool]]:
    """`sync_and_poll(context=context)` of each connection's own assets; making the assets is set-up."""
    import logging

    import dagster as dg
    from dagster_airbyte import build_airbyte_assets_definitions

    logging.disable(logging.CRITICAL)

    def work(assets: dg.AssetsDefinition) -> bool:
        with dg.DagsterInstance.ephemeral() as instance:
            resources = {"airbyte": workspace}
            return dg.materialize([assets], resources=resources, instance=instance, raise_on_error=False).success

    return [partial(work, assets) for assets in build_airbyte_assets_definitions(workspace=workspace)]


def _counted_requests() -> list[str]:
    """Counts what `requests` sends, without changing it."""
    from requests.adapters import HTTPAdapter

    sent: list[str] = []
    plain = HTTPAdapter.send

    def send(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        sent.append(request.url)
        return plain(self, request, *args, **kwargs)

    HTTPAdapter.send = send  # type: ignore[method-assign]
    return sent


# ------------------------------------------------------------------------------------------------------------- the line


def warm_up() -> None:
    """What a process does once (compiling statements, importing lazily) is not what a sync costs."""
    case = Case(connections=5, slots=5, duration=0.5, post_ms=1, post_threads=5)
    with server_of(case) as url, an_ops_store() as store:
        run_engine(case, url, store, patience=60)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Every case in turn, each on a fresh server and a fresh ledger; then dagster-airbyte on the smallest."""
    warm_up()
    sizes = [int(one) for one in options.connections.split(",")]
    cases = [
        Case(size, max(size // options.waves, 1), options.duration, options.post_ms, options.post_threads)
        for size in sizes
    ]
    runs = []
    for case in cases:
        print(f"{case.connections} connections, ideal {case.ideal:.0f} s", file=sys.stderr)
        with server_of(case) as url, an_ops_store() as store:
            runs.append(run_engine(case, url, store))
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
    parser.add_argument("--duration", type=float, default=10.0, help="seconds that a sync takes")
    parser.add_argument("--post-ms", type=int, default=20, help="milliseconds that POST /jobs occupies a server thread")
    parser.add_argument("--post-threads", type=int, default=5, help="server threads for POST /jobs")
    parser.add_argument("--without-dagster-airbyte", action="store_true")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--dagster-airbyte", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.dagster_airbyte:
        dagster_airbyte(Case(**json.loads(options.serve)), options.url, options.dagster_airbyte)
    elif options.serve:
        serve(Case(**json.loads(options.serve)), options.port)
    else:
        for hidden in ("serve", "dagster_airbyte", "port", "url"):
            delattr(options, hidden)
        print(json.dumps(measure(options)))


if __name__ == "__main__":
    main()
