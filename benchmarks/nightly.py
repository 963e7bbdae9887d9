"""One night: the day that is over goes into the archive to its sealed manifest, and the day past its window is deleted.

Both in process, in the table as it is: without an index on its time, and with the index on tenant and time that the
docs recommend. Beside it the bare scans that a night needs without an index: one that finds the day to archive, one
that finds the day to delete. The deletion asks the store for every object first, as it does in production.

Targets: at most 2.5 x these scans; with the index 0.1 of that. ROWS, TENANTS and DAYS change the size; a day has
ROWS / DAYS rows.
"""

from __future__ import annotations

import json
import os
from datetime import date, datetime, timedelta

import psycopg

from adinsights_orchestration.audit_log.archive.run import Archiver
from adinsights_orchestration.audit_log.reading.held import not_held
from adinsights_orchestration.audit_log.retention.again import not_held_any_more
from adinsights_orchestration.audit_log.retention.run import Retention
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from adinsights_orchestration.audit_log.table.statements import midnight
from adinsights_orchestration.tenants.model import MINIMUM_RETENTION_DAYS
from benchmarks._audit_rows import FIRST, Bench, filled
from benchmarks._machine import Cost, peak_memory_mb

_SIZE = {"ROWS": "5000000", "TENANTS": "200", "DAYS": "500"}
_INDEX = "create index accounts_auditlog_tenant_time on accounts_auditlog (tenant_id, created_at)"


def main() -> None:
    rows, tenants, days = (int(os.environ.get(name, default)) for name, default in _SIZE.items())
    if days < MINIMUM_RETENTION_DAYS + 2:
        raise SystemExit(f"DAYS must be at least {MINIMUM_RETENTION_DAYS + 2}: a window is a year or longer")
    window = days - 2  # two days before the last one, the first one is past it
    figures: dict[str, object] = {"benchmark": "nightly", "rows": rows, "rows_a_day": rows // days}
    with filled(rows, tenants, days) as bench:
        now = midnight(FIRST + timedelta(days=days - 1)) + timedelta(hours=4)
        bench.serve(tenants, now, window)
        _archive(bench, FIRST, now)
        _archive(bench, FIRST + timedelta(days=1), now)
        scans = _scans(bench, now.date() - timedelta(days=1))
        figures |= {"scans_seconds": round(scans.wall, 2), "scans_cpu_seconds": round(scans.cpu, 2)}
        figures["without_index"] = _night(bench, now, window, scans)
        with psycopg.connect(bench.dsn, autocommit=True) as connection:
            connection.execute(_INDEX)
            connection.execute("vacuum analyze accounts_auditlog")
        bench.serve(tenants, now + timedelta(days=1), window)
        figures["with_index"] = _night(bench, now + timedelta(days=1), window, scans)
    figures["peak_memory_mb"] = round(peak_memory_mb())
    print(json.dumps(figures))


def _night(bench: Bench, now: datetime, window: int, scans: Cost) -> dict[str, object]:
    due = now.date() - timedelta(days=window + 1)
    with bench.measured() as archiving:
        objects = _archive(bench, now.date() - timedelta(days=1), now)
    with psycopg.connect(bench.dsn) as connection:
        found = connection.execute(
            "select distinct tenant_id from accounts_auditlog where created_at < %s",
            (midnight(due + timedelta(days=1)),),
        )
        whose = [row[0] for row in found]
    with bench.measured() as asking:
        problems = not_held(bench.settings, bench.ops, AUDIT_LOG, [(tenant, due) for tenant in whose])
    unproven = not_held_any_more(bench.settings, bench.ops)
    run = Retention(bench.settings, bench.ops, AUDIT_LOG, lambda: now, "benchmark", apply=True, unproven=unproven)
    with bench.measured() as deleting:
        report = run.run()
    days = sorted({day for _, day in report.deleted})
    if problems or days != [due] or report.unequal or report.left:
        raise RuntimeError(f"{report.rows} rows of {days} went, not all of {due}; {problems or report.unequal}")
    wall, cpu = archiving.wall + deleting.wall, archiving.cpu + deleting.cpu
    return {
        "seconds": round(wall, 2),
        "ratio_of_scans": round(wall / scans.wall, 3),
        "cpu_seconds": round(cpu, 2),
        "ratio_of_scans_cpu": round(cpu / scans.cpu, 3),
        "objects": objects,
        "archive_seconds": round(archiving.wall, 2),
        "archive_cpu_seconds": round(archiving.cpu, 2),
        "deleted": report.rows,
        "delete_seconds": round(deleting.wall, 2),
        "delete_cpu_seconds": round(deleting.cpu, 2),
        "of_it_asking_the_store_seconds": round(asking.wall, 2),
        "of_it_asking_the_store_cpu_seconds": round(asking.cpu, 2),
        "longest_ms": round(report.longest_seconds * 1000),
    }


def _archive(bench: Bench, day: date, now: datetime) -> int:
    return Archiver(bench.settings, bench.ops, AUDIT_LOG, clock=lambda: now).run(day, day, actor="benchmark").objects


def _scans(bench: Bench, day: date) -> Cost:
    """The scans that a night needs, bare: each counts a day's rows, in one process of the server."""
    total = Cost()
    with psycopg.connect(bench.dsn, autocommit=True) as connection:
        connection.execute("set max_parallel_workers_per_gather = 0")
        for each in (day, FIRST):
            bounds = (midnight(each), midnight(each + timedelta(days=1)))
            with bench.measured() as cost:
                connection.execute(
                    "select count(*) from accounts_auditlog where created_at >= %s and created_at < %s", bounds
                )
            total = Cost(total.wall + cost.wall, total.client + cost.client, total.server + cost.server)
    return total


if __name__ == "__main__":
    main()
