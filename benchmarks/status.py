"""How long `adinsights status` takes with many connections, over the floor of starting the command at all.

The command runs in a fresh interpreter each time, as a person or a cron job runs it, against a real Postgres with an
evaluated state of every connection, a tenth of them late. The floor is the same command asked for its help. Floor and
command run in turn, so that a drifting machine moves both; the figures are medians. Prints one JSON line a case.

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
from adinsights_orchestration.tenants.model import Provider
from benchmarks._databases import databases
from benchmarks._machine import NAMESPACE

HOUR = timedelta(hours=1)
LATE_OF = 10  # one in so many connections is late
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


def _fill(store: OpsStore, count: int) -> None:
    now = datetime.now(UTC)
    states = []
    for n in range(count):
        late = n % LATE_OF == 0
        facts = Facts(f"tenant/meta-{n}", Provider.META, uuid5(NAMESPACE, "tenant"), last_success_at=now - HOUR)
        verdict = Verdict(
            Freshness.STALE if late else Freshness.OK,
            "Last success an hour ago.",
            now + HOUR,
            now - HOUR if late else now + HOUR,
        )
        states.append(ConnectionState(facts, verdict, now - HOUR, "every hour", now - 24 * HOUR))
    with store.begin() as connection:
        write_states(connection, states, now)
        save_place(connection, Place(now, 1, "rules"), now)


def _measure(environment: Mapping[str, str], connections: int, runs: int) -> dict[str, float]:
    answer = _run((*_COMMAND, "--json"), environment)[2]
    counted = json.loads(answer)["freshness"]["by_state"]
    assert sum(counted.values()) == connections, counted
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
