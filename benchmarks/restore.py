"""Restoring over a bare COPY FROM of the same rows into the same table definition.

The floor is one `COPY accounts_auditlog FROM STDIN` of bytes that were made before, foreign keys and all three indexes
in place; the restore reads, proves, stages, inserts and compares the same rows, into the live table behind a hold.
Target: at least 0.5 of the floor's rows per second. ROWS, TENANTS and DAYS change the size.
"""

from __future__ import annotations

import json
import os
import tempfile
from datetime import UTC, datetime, timedelta
from typing import BinaryIO

import psycopg

from adinsights_orchestration.audit_log.archive.run import Archiver
from adinsights_orchestration.audit_log.restore.plan import Wanted
from adinsights_orchestration.audit_log.restore.run import Order, Restore
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from adinsights_orchestration.audit_log.table.statements import midnight
from benchmarks._audit_rows import FIRST, Bench, filled
from benchmarks._machine import Cost, peak_memory_mb

_COLUMNS = "id, tenant_id, user_id, action, resource_type, resource_id, metadata, created_at"
_PIECE = 1 << 20
_SIZE = {"ROWS": "5000000", "TENANTS": "10", "DAYS": "500"}
_DIGEST = "select count(*), sum(hashtextextended(t::text, 0)) from accounts_auditlog t"


def main() -> None:
    rows, tenants, days = (int(os.environ.get(name, default)) for name, default in _SIZE.items())
    with filled(rows, tenants, days) as bench, tempfile.TemporaryFile() as lines:
        last = FIRST + timedelta(days=days - 1)
        Archiver(bench.settings, bench.ops, AUDIT_LOG).run(FIRST, last, actor="benchmark")
        before = _digest(bench)
        _take(bench, lines)
        _empty(bench)
        floor = _put(bench, lines)
        _empty(bench)
        wanted = Wanted(midnight(FIRST), midnight(last + timedelta(days=1)), ())
        order = Order(wanted, live=True, hold_until=datetime.now(UTC) + timedelta(days=1), apply=True)
        with bench.measured() as cost:
            report = Restore(bench.settings, bench.ops, AUDIT_LOG, "benchmark").run(order)
        after = _digest(bench)
    if report.total.came != rows or not report.well or after != before:
        raise RuntimeError(f"{report.total.came} of {rows} rows came back, equal: {after == before}")
    figures = {
        "benchmark": "restore",
        "rows": rows,
        "tenants_days": report.days,
        "floor_seconds": round(floor.wall, 2),
        "seconds": round(cost.wall, 2),
        "rows_per_second": round(rows / cost.wall),
        "ratio_of_floor": round(floor.wall / cost.wall, 3),
        "floor_cpu_seconds": round(floor.cpu, 2),
        "cpu_seconds": round(cost.client, 2),
        "server_cpu_seconds": round(cost.server, 2),
        "ratio_of_floor_cpu": round(floor.cpu / cost.cpu, 3),
        "transactions": report.transactions,
        "peak_memory_mb": round(peak_memory_mb()),
    }
    print(json.dumps(figures))


def _take(bench: Bench, lines: BinaryIO) -> None:
    query = f"copy (select {_COLUMNS} from accounts_auditlog order by tenant_id, created_at) to stdout"
    with psycopg.connect(bench.dsn) as connection, connection.cursor() as cursor, cursor.copy(query) as copy:
        for piece in copy:
            lines.write(piece)


def _put(bench: Bench, lines: BinaryIO) -> Cost:
    lines.seek(0)
    with (
        bench.measured() as cost,
        psycopg.connect(bench.dsn) as connection,
        connection.cursor() as cursor,
        cursor.copy(f"copy accounts_auditlog ({_COLUMNS}) from stdin") as copy,
    ):
        while piece := lines.read(_PIECE):
            copy.write(piece)
    return cost


def _empty(bench: Bench) -> None:
    with psycopg.connect(bench.dsn, autocommit=True) as connection:
        connection.execute("truncate accounts_auditlog")
        connection.execute("checkpoint")


def _digest(bench: Bench) -> tuple[object, ...] | None:
    with psycopg.connect(bench.dsn) as connection:
        return connection.execute(_DIGEST).fetchone()


if __name__ == "__main__":
    main()
