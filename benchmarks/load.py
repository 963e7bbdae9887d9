"""How long a code location takes to load in a fresh interpreter, over the floor of importing its libraries.

Floor: the libraries that the location needs, and for `pipelines` the dbt manifest read and parsed once. Each figure
is the median of several fresh interpreters, floor and location in turn, so that a drifting machine moves both.
Connections live in the ops store and as dynamic partitions, never in definitions; the run with 5,000 of them shows
it. Prints one JSON line.

Targets: at most 1.3 times the floor, and the same with 10 and with 5,000 connections.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid5

from pydantic import SecretStr

from adinsights_orchestration.local.postgres import EmbeddedPostgres
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import PROJECT_ROOT, OpsStoreSettings
from adinsights_orchestration.tenants.model import Connection, Provider, Registry, Schedule, ScheduleType, Tenant
from benchmarks._machine import NAMESPACE, free_port

_MANIFEST = PROJECT_ROOT / "dbt_project" / "target" / "prepared" / "manifest.json"
_LIBRARIES = "import dagster, dagster_airbyte, dagster_postgres, httpx, psycopg, sqlalchemy, alembic, structlog"
_FLOORS = {
    "pipelines": f"{_LIBRARIES}, dagster_dbt, json; json.load(open({str(_MANIFEST)!r}))",
    "monitoring": "import dagster, dagster_postgres, sqlalchemy, pydantic_settings, structlog",
}
_LOAD = (
    "from adinsights_orchestration.locations import {0} as location;"
    "from dagster._core.definitions.reconstruct import repository_def_from_target_def as load;"
    "repository = load(location.defs); repository.get_all_jobs(); assert repository is not None"
)


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="fresh interpreters per figure")
    parser.add_argument("--connections", type=int, nargs="+", default=[10, 5000])
    options = parser.parse_args()
    figures = {"benchmark": "load", "runs": options.runs, "locations": {}}
    for connections in options.connections:
        with _environment(connections) as environment:
            for location in _FLOORS:
                measured = _measure(location, environment, options.runs)
                figures["locations"].setdefault(location, {})[str(connections)] = measured
    print(json.dumps(figures))


def _measure(location: str, environment: Mapping[str, str], runs: int) -> dict[str, float]:
    load = _LOAD.format(location)
    _seconds(_FLOORS[location], environment), _seconds(load, environment)  # warm the page cache and the byte code
    pairs = [(_seconds(_FLOORS[location], environment), _seconds(load, environment)) for _ in range(runs)]
    return {
        "floor_cpu_s": round(statistics.median(floor for floor, _ in pairs), 2),
        "load_cpu_s": round(statistics.median(own for _, own in pairs), 2),
        "ratio": round(statistics.median(own / floor for floor, own in pairs), 3),
    }


def _seconds(program: str, environment: Mapping[str, str]) -> float:
    """CPU seconds of one fresh interpreter; wall time on a shared machine would measure the neighbours."""
    before = os.times()
    subprocess.run([sys.executable, "-c", program], env=environment, check=True, cwd=PROJECT_ROOT)
    after = os.times()
    return (after.children_user - before.children_user) + (after.children_system - before.children_system)


@contextmanager
def _environment(connections: int) -> Iterator[dict[str, str]]:
    """A real ops store with that many connections in its registry, and the variables that point at it."""
    with tempfile.TemporaryDirectory(prefix="adinsights-load-") as folder:
        Path(folder).chmod(0o755)
        server = EmbeddedPostgres(Path(folder) / "pg", free_port(), die_with_parent=True)
        server.start()
        try:
            dsn = server.create_database("ops")
            _fill(dsn, connections)
            yield {**os.environ, "ADINSIGHTS_OPS_STORE__DSN": dsn}
        finally:
            server.stop()


def _fill(dsn: str, count: int) -> None:
    from adinsights_orchestration.tenants.store import write_snapshot, write_success

    store = OpsStore(OpsStoreSettings(dsn=SecretStr(dsn)))
    store.migrate()
    now = datetime.now(UTC)
    registry = Registry(*_served(count), source="benchmark", read_at=now)
    with store.begin() as connection:
        write_success(connection, write_snapshot(connection, "benchmark", registry, None), now)
    store.dispose()


def _served(count: int) -> tuple[tuple[Tenant, ...], tuple[Connection, ...]]:
    tenants = tuple(Tenant(uuid5(NAMESPACE, f"t{n}"), f"Tenant {n}", f"tenant-{n}") for n in range(max(1, count // 10)))
    providers = list(Provider)
    connections = []
    for n in range(count):
        row = uuid5(NAMESPACE, f"c{n}")
        tenant = tenants[n % len(tenants)]
        key = f"{tenant.slug}/connection-{str(row)[:8]}"
        schedule = Schedule(ScheduleType.CRON, cron="0 6-22 * * *")
        provider = providers[n % len(providers)]
        connections.append(Connection(row, tenant.id, provider, f"c{n}", row, schedule, partition_key=key))
    return tenants, tuple(connections)


if __name__ == "__main__":
    main()
