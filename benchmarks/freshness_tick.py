"""One evaluation of freshness over many connections, beside merely fetching the ledger and Dagster's own daemon.

For each number of connections and share of them that turns late: a tick in which that happens, from the ledger to the
states that are kept (`tick`) and on to the checks in Dagster (`show`), on a real Postgres with a history of syncs. The
floor is one statement that fetches each connection's newest job, which any evaluation that looks at all of them needs.
The peer is Dagster's freshness daemon, on as many assets with a time-window policy on the same server. With `--already`
a share has been late for most of an hour, longer than any watermark waits for its renewal, and nothing changes in the
measured tick. Prints one JSON line a case.

Targets: 10,000 connections without a transition in at most 3 times the bare fetch and under 1 s of CPU; time
proportional to transitions.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import uuid5

import dagster as dg
import sqlalchemy as sa
from dagster._core.loader import LoadingContextForTest
from dagster._core.test_utils import freeze_time
from dagster._daemon.freshness import FreshnessDaemon

from adinsights_orchestration.clock import TickClock
from adinsights_orchestration.environments import Environment
from adinsights_orchestration.freshness import tick
from adinsights_orchestration.freshness.automation import BUDGET_SECONDS
from adinsights_orchestration.freshness.showing import Showing
from adinsights_orchestration.freshness.sla import Sla, load_sla
from adinsights_orchestration.freshness.tick import Evaluation
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.tenants import store as registry_store
from adinsights_orchestration.tenants.model import Connection, Provider, Registry, Schedule, ScheduleType, Tenant
from benchmarks._databases import databases
from benchmarks._machine import NAMESPACE, cpu_seconds, peak_memory_mb

START = datetime(2026, 11, 23, 13, 0, tzinfo=UTC)
HOURLY = Schedule(ScheduleType.INTERVAL, interval=timedelta(hours=1))
TENANT = Tenant(uuid5(NAMESPACE, "tenant"), "Tenant", "tenant")
SLA = load_sla(Environment.PRODUCTION)
HISTORY = 10  # syncs of each connection
_FETCH = sa.text(
    "select distinct on (partition_key) partition_key, provider, tenant_id, job_id, status, started_at, ended_at,"
    " duration_seconds, failure_message from adinsights_ops.sync_job order by partition_key, ended_at desc"
)
_KEYS = sa.text("""
insert into adinsights_ops.partition_key (key, provider, row_id, tenant_id, connection_name, first_seen_at)
select c.key, c.provider, c.id, :tenant, c.key, :seen
from unnest(cast(:ids as uuid[]), cast(:keys as text[]), cast(:providers as text[])) as c (id, key, provider)
""")
_JOBS = sa.text("""
insert into adinsights_ops.sync_job (job_id, connection_id, partition_key, provider, tenant_id, job_type, status,
    started_by, started_at, ended_at, duration_seconds, first_observed_at, observed_at, report_state, reported_at)
select c.number * 100 + n, c.connection_id, c.key, c.provider, :tenant, 'sync', 'succeeded', 'external',
    c.last - n * interval '1 hour' - interval '2 minutes', c.last - n * interval '1 hour', 120,
    c.last - n * interval '1 hour', c.last - n * interval '1 hour', 'reported', c.last - n * interval '1 hour'
from unnest(cast(:numbers as bigint[]), cast(:ids as uuid[]), cast(:keys as text[]), cast(:providers as text[]),
    cast(:lasts as timestamptz[])) as c (number, connection_id, key, provider, last)
cross join generate_series(0, :history - 1) as n
""")


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", default="100,1000,10000", help="numbers of connections")
    parser.add_argument("--late", default="0,1,100", help="percent of them that turn late in the measured tick")
    parser.add_argument("--already", default="1", help="percent that are late already, in ticks without a transition")
    parser.add_argument("--peer", type=int, default=1000, help="most assets that Dagster's own daemon is measured on")
    options = parser.parse_args()
    for connections in map(int, options.connections.split(",")):
        turning = [(int(percent), 0) for percent in options.late.split(",")]
        for late, already in [*turning, *((0, int(percent)) for percent in options.already.split(",") if percent)]:
            with databases() as (store, instance):
                case = Case(store, instance, connections, connections * late // 100, connections * already // 100)
                shares = {"late_percent": late, "already_late_percent": already}
                print(json.dumps({"benchmark": "freshness_tick", **shares, **case.measure()}), flush=True)
        if connections <= options.peer:
            with databases() as (_, instance):
                peer = {"benchmark": "freshness_tick", "peer": "Dagster's freshness daemon", "assets": connections}
                print(json.dumps({**peer, **_daemon(instance, connections)}), flush=True)


@dataclass
class Case:
    """So many connections, of which so many turn late in the measured tick, and so many are late already."""

    store: OpsStore
    instance: dg.DagsterInstance
    connections: int
    late: int
    already: int = 0

    def measure(self) -> dict[str, Any]:
        """The figures of the tick."""
        self._populate()
        # What was read last is read again for two minutes; at 45 the watermarks of those that are well are renewed.
        for minutes in (10, 13, *((45,) if self.already else ())):
            tick.run(self.store, SLA, START + timedelta(minutes=minutes))
            self._show(START + timedelta(minutes=minutes))
        now = START + timedelta(minutes=50 if self.already else 20)
        fetched = min((_timed(self._fetch) for _ in range(5)), key=lambda figures: figures["wall_s"])
        ticked, evaluation = _measured(lambda: tick.run(self.store, SLA, now))
        assert isinstance(evaluation, Evaluation)
        if len(evaluation.transitions) != self.late:
            raise RuntimeError(f"{len(evaluation.transitions)} transitions instead of {self.late}")
        shown = _timed(lambda: self._show(now))
        return {
            "connections": self.connections,
            "transitions": self.late,
            "tick_wall_s": ticked["wall_s"],
            "tick_cpu_s": ticked["cpu_s"],
            "rows_written": evaluation.written,
            "show_wall_s": shown["wall_s"],
            "show_cpu_s": shown["cpu_s"],
            "fetch_wall_s": fetched["wall_s"],
            "fetch_cpu_s": fetched["cpu_s"],
            "wall_over_fetch": round(ticked["wall_s"] / fetched["wall_s"], 2),
            "peak_memory_mb": round(peak_memory_mb()),
        }

    def _fetch(self) -> int:
        with self.store.begin() as connection:
            return len(connection.execute(_FETCH).all())

    def _show(self, now: datetime) -> None:
        showing = Showing(self.instance, self.store, SLA[Sla.SYNC_AGE].warn_after)
        while showing.show(TickClock(now, BUDGET_SECONDS)).left:
            pass

    def _populate(self) -> None:
        served = [_connection(number) for number in range(self.connections)]
        # Those that turn late succeeded an hour and four minutes before the measured tick's deadline, others just now.
        ages = [timedelta(minutes=58)] * self.late + [timedelta(hours=3)] * self.already
        lasts = [START - age for age in ages] + [START] * (self.connections - len(ages))
        with self.store.begin() as connection:
            snapshot = registry_store.write_snapshot(
                connection, "1", Registry((TENANT,), tuple(served), "benchmark", START), None
            )
            registry_store.write_success(connection, snapshot, START)
            columns = {
                "numbers": list(range(self.connections)),
                "ids": [one.connection_id for one in served],
                "keys": [one.partition_key for one in served],
                "providers": [one.provider.value for one in served],
                "lasts": lasts,
            }
            connection.execute(_KEYS, {**columns, "tenant": TENANT.id, "seen": START - timedelta(days=30)})
            connection.execute(_JOBS, {**columns, "tenant": TENANT.id, "history": HISTORY})
        with self.store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text("vacuum analyze adinsights_ops.sync_job"))


def _connection(number: int) -> Connection:
    row = uuid5(NAMESPACE, f"freshness/{number}")
    provider = tuple(Provider)[number % len(Provider)]
    return Connection(row, TENANT.id, provider, f"c{number}", row, HOURLY, partition_key=f"tenant/c{number:05}")


def _measured(work: Callable[[], object]) -> tuple[dict[str, float], object]:
    began, cpu = time.monotonic(), cpu_seconds()
    result = work()
    return {"wall_s": round(time.monotonic() - began, 4), "cpu_s": round(cpu_seconds() - cpu, 4)}, result


def _timed(work: Callable[[], object]) -> dict[str, float]:
    return _measured(work)[0]


def _daemon(instance: dg.DagsterInstance, assets: int) -> dict[str, Any]:
    """Dagster's own evaluation: a tick in which nothing changes, and one in which every asset turns stale."""
    policy = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=1))
    specs = [dg.AssetSpec(f"a{number}", freshness_policy=policy) for number in range(assets)]
    graph = dg.Definitions(assets=specs).resolve_asset_graph()
    with freeze_time(START):
        for spec in specs:
            instance.report_runless_asset_event(dg.AssetMaterialization(spec.key))
        _evaluate(instance, graph)
        idle = _timed(lambda: _evaluate(instance, graph))
    with freeze_time(START + timedelta(hours=2)):
        all_change = _timed(lambda: _evaluate(instance, graph))
    return {
        "idle_wall_s": idle["wall_s"],
        "idle_cpu_s": idle["cpu_s"],
        "all_change_wall_s": all_change["wall_s"],
        "all_change_cpu_s": all_change["cpu_s"],
    }


def _evaluate(instance: dg.DagsterInstance, graph: Any) -> None:
    context = LoadingContextForTest(instance)
    context.asset_graph = graph  # type: ignore[attr-defined]

    class Process:
        def create_request_context(self) -> LoadingContextForTest:
            return context

    asyncio.run(FreshnessDaemon()._evaluate_assets(cast("Any", Process())))  # noqa: SLF001  (the peer has no public way)


if __name__ == "__main__":
    main()
