"""Deleting the older half of an audit log without an index on its time, over one plain DELETE of the same rows.

Each way works on a fresh copy of the table: one DELETE (the floor), then retention by age alone (no digest), by the
fast digest and by the portable one (as on a server of another major version). Meanwhile somebody else inserts a row
every few milliseconds, as the application does; before that, undisturbed. What was sealed is put into the ledger as the
archive would have; whether the store still holds it, which costs a fetch per object, is measured by `nightly`.

Targets: at most 1 x the floor without digest, 2.5 x with the fast one, 5 x with the portable one; no transaction above
500 ms; the 99th percentile of the inserts at most 2 x undisturbed. ROWS, TENANTS and DAYS change the size.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import psycopg

from adinsights_orchestration.audit_log.retention.run import Retention, RetentionReport
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from adinsights_orchestration.settings import RetentionArchive
from benchmarks._audit_rows import FIRST, Bench, filled, sealed
from benchmarks._machine import Cost, peak_memory_mb

_SIZE = {"ROWS": "5000000", "TENANTS": "200", "DAYS": "500"}
_WINDOW_DAYS = 365
_OTHER_MAJOR = 1  # no server's: what was sealed by it is compared by the portable digest
_UNDISTURBED_SECONDS = 20.0
_PAUSE_SECONDS = 0.005
_ROW = """
insert into accounts_auditlog
select gen_random_uuid(), id, null, 'login', 'user', '1', '{"ip": "10.0.0.1"}', now() from accounts_tenant limit 1"""


def main() -> None:
    rows, tenants, days = (int(os.environ.get(name, default)) for name, default in _SIZE.items())
    half = FIRST + timedelta(days=days // 2)
    now = datetime.combine(half, datetime.min.time(), UTC) + timedelta(days=_WINDOW_DAYS)
    figures: dict[str, object] = {"benchmark": "retention", "rows": rows, "deleted": 0}
    with filled(rows, tenants, days) as bench:
        bench.serve(tenants, now)
        with inserting(bench) as undisturbed:
            time.sleep(_UNDISTURBED_SECONDS)
        usual = percentile(undisturbed)
        figures["insert_p99_ms_undisturbed"] = round(usual * 1000, 1)
        seals = sealed(bench, half)
        floor, waits, deleted = _plain(bench, half)
        figures |= {"deleted": deleted, "floor_seconds": round(floor.wall, 2), "floor_cpu_seconds": round(floor.cpu, 2)}
        figures["floor_insert_p99"] = round(percentile(waits) / usual, 2)
        for name in ("no_digest", "fast", "portable"):
            bench.renew()
            seals.put(bench, server_major=_OTHER_MAJOR if name == "portable" else None)
            cost, waits, report = _retention(bench, now, by_age=name == "no_digest")
            if report.rows != deleted or report.unequal or report.left or report.blocked:
                raise RuntimeError(f"{name}: {report.rows} of {deleted} rows went; {len(report.unequal)} days differ")
            figures[name] = {
                "seconds": round(cost.wall, 2),
                "ratio_of_floor": round(cost.wall / floor.wall, 2),
                "cpu_seconds": round(cost.client, 2),
                "server_cpu_seconds": round(cost.server, 2),
                "ratio_of_floor_cpu": round(cost.cpu / floor.cpu, 2),
                "transactions": report.transactions,
                "longest_ms": round(report.longest_seconds * 1000),
                "paused_seconds": round(report.paused_seconds, 2),
                "insert_p99": round(percentile(waits) / usual, 2),
            }
    figures["peak_memory_mb"] = round(peak_memory_mb())
    print(json.dumps(figures))


def _plain(bench: Bench, half: object) -> tuple[Cost, list[float], int]:
    with psycopg.connect(bench.dsn, autocommit=True) as connection, inserting(bench) as waits:
        connection.execute("set timezone = 'UTC'")
        with bench.measured() as cost:
            deleted = connection.execute("delete from accounts_auditlog where created_at < %s", (half,)).rowcount
    return cost, waits, deleted


def _retention(bench: Bench, now: datetime, *, by_age: bool) -> tuple[Cost, list[float], RetentionReport]:
    settings = bench.settings
    if by_age:
        settings = settings.model_copy(
            update={"retention": settings.retention.model_copy(update={"archive": RetentionArchive.OFF})}
        )
    run = Retention(settings, bench.ops, AUDIT_LOG, lambda: now, "benchmark", apply=True)
    with inserting(bench) as waits, bench.measured() as cost:
        report = run.run()
    return cost, waits, report


@contextmanager
def inserting(bench: Bench) -> Iterator[list[float]]:
    """Somebody else's inserts while the body runs, one after another, and how long each took with its COMMIT."""
    waits: list[float] = []
    over = threading.Event()

    def insert() -> None:
        with psycopg.connect(bench.dsn, autocommit=True) as connection:
            while not over.wait(_PAUSE_SECONDS):
                began = time.monotonic()
                connection.execute(_ROW)
                waits.append(time.monotonic() - began)

    thread = threading.Thread(target=insert, name="bench-insert")
    thread.start()
    try:
        yield waits
    finally:
        over.set()
        thread.join()


def percentile(waits: list[float], share: float = 0.99) -> float:
    """The wait that so many of them do not exceed."""
    return sorted(waits)[int(len(waits) * share)]


if __name__ == "__main__":
    main()
