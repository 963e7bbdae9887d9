"""How long `adinsights status` takes with many connections, over the floor of starting the command at all.

The command runs in a fresh interpreter each time, as a person or a cron job runs it, against a real Postgres with the
registry's snapshot of every connection and an evaluated state of each, a tenth of them late. The floor is the same
command asked for its help. Floor and command run in turn, so that a drifting machine moves both; the figures are
medians. Prints one JSON line a case.

Target: under 2 s with 10,000 connections on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from uuid import uuid5

from adinsights_orchestration.freshness.model import ConnectionState, Facts, Freshness, Verdict
from adinsights_orchestration.freshness.states import Place, save_place, write_states
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import PROJECT_ROOT
from adinsights_orchestration.tenants import store as registry_store
from adinsights_orchestration.tenants.model import Connection, Provider, Registry, Schedule, ScheduleType, Tenant
from benchmarks._databases import databases
from benchmarks._machine import NAMESPACE

HOUR = timedelta(hours=1)
HOURLY = Schedule(ScheduleType.INTERVAL, interval=HOUR)
LATE_OF = 10  # one in so many connections is late
CONNECTIONS_OF_A_TENANT = 6
_PROVIDERS = tuple(Provider)
_COMMAND = (sys.executable, "-m", "adinsights_orchestration.cli", "status")


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="fresh interpreters per figure")
    parser.add_argument("--connections", default="100,10000", help="numbers of connections")
    options = parser.parse_args()
    for connections in map(int, options.connections.split(",")):
        with databases() as (store, _):
            _fill(store, connections)
            environment = {**os.environ, "ADINSIGHTS_OPS_STORE__DSN": store.engine.url.render_as_string(False)}
            figures = _measure(environment, connections, options.runs)
        print(json.dumps({"benchmark": "status", "connections": connections, **figures}), flush=True)


def _registry(count: int, now: datetime) -> Registry:
    tenants = [
        Tenant(uuid5(NAMESPACE, f"tenant/{n}"), f"Tenant {n}", f"tenant-{n}")
        for n in range(max(count // CONNECTIONS_OF_A_TENANT, 1))
    ]
    connections = []
    for n in range(count):
        tenant, provider = tenants[n % len(tenants)], _PROVIDERS[n % len(_PROVIDERS)]
        row, key = uuid5(NAMESPACE, f"status/{n}"), f"{tenant.slug}/{provider.value}-{n}"
        name = f"{provider.label} {n}"
        connections.append(Connection(row, tenant.id, provider, name, row, HOURLY, partition_key=key))
    return Registry(tuple(tenants), tuple(connections), "benchmark", now)


def _fill(store: OpsStore, count: int) -> None:
    now = datetime.now(UTC)
    registry, states = _registry(count, now), []
    for n, served in enumerate(registry.connections):
        late = n % LATE_OF == 0
        facts = Facts(served.partition_key, served.provider, served.tenant_id, last_success_at=now - HOUR)
        verdict = Verdict(
            Freshness.STALE if late else Freshness.OK,
            "Last success an hour ago.",
            now + HOUR,
            now - HOUR if late else now + HOUR,
        )
        states.append(ConnectionState(facts, verdict, now - HOUR, "every hour", now - 24 * HOUR))
    with store.begin() as connection:
        snapshot = registry_store.write_snapshot(connection, "1", registry, None)
        registry_store.write_success(connection, snapshot, now)
        write_states(connection, states, now)
        save_place(connection, Place(now, 1, "rules"), now)
    assert len(registry_store.load_registry(store).connections) == count


def _measure(environment: Mapping[str, str], connections: int, runs: int) -> dict[str, float]:
    answer = json.loads(_run((*_COMMAND, "--json"), environment)[2])
    counted, tenants = answer["freshness"]["by_state"], answer["registry"]["tenants"]
    assert sum(counted.values()) == connections, counted
    assert tenants == max(connections // CONNECTIONS_OF_A_TENANT, 1), tenants
    floors, commands = [], []
    for _ in range(runs):
        floors.append(_run((*_COMMAND, "--help"), environment)[:2])
        commands.append(_run((*_COMMAND, "--json"), environment)[:2])
    pairs = list(zip(floors, commands, strict=True))
    return {
        "floor_wall_s": round(statistics.median(wall for wall, _ in floors), 2),
        "wall_s": round(statistics.median(wall for wall, _ in commands), 2),
        "cpu_s": round(statistics.median(cpu for _, cpu in commands), 2),
        "ratio": round(statistics.median(own[0] / floor[0] for floor, own in pairs), 2),
        "cpu_ratio": round(statistics.median(own[1] / floor[1] for floor, own in pairs), 2),
    }


def _run(command: tuple[str, ...], environment: Mapping[str, str]) -> tuple[float, float, str]:
    """Wall and CPU seconds of one fresh process, and what it printed; it exits with 0, 1 or 2 by what it found."""
    before, began = os.times(), time.perf_counter()
    done = subprocess.run(command, env=environment, check=False, cwd=PROJECT_ROOT, capture_output=True, text=True)
    wall, after = time.perf_counter() - began, os.times()
    cpu = (after.children_user - before.children_user) + (after.children_system - before.children_system)
    return wall, cpu, done.stdout


if __name__ == "__main__":
    main()
