"""The whole archive protocol over a bare binary COPY of the same rows: order, digests, PUT, read-back, manifests.

Target: at least 0.35 of the floor's rows per second at 1,000 and more rows a chunk; memory below 400 MB. ROWS, TENANTS
and DAYS change the size. `ROWS=5000000 TENANTS=10 DAYS=500` is 1,000 rows a chunk. The archive is a folder, or
the empty bucket that ADINSIGHTS_AUDIT_LOG__ARCHIVE_URL and the other variables of its settings name.
"""

from __future__ import annotations

import json
import os
from datetime import timedelta

from adinsights_orchestration.audit_log.archive.run import Archiver
from adinsights_orchestration.audit_log.reading.verify import verify_range
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from adinsights_orchestration.audit_log.store.opening import open_store
from benchmarks._audit_rows import FIRST, filled
from benchmarks._machine import peak_memory_mb


def main() -> None:
    rows, tenants, days = (int(os.environ.get(name, default)) for name, default in _SIZE.items())
    with filled(rows, tenants, days) as bench:
        floor = bench.floor()
        last = FIRST + timedelta(days=days - 1)
        with bench.measured() as cost:
            report = Archiver(bench.settings, bench.ops, AUDIT_LOG).run(FIRST, last, actor="benchmark")
        proof = verify_range(open_store(bench.settings.audit_log), AUDIT_LOG, FIRST, last)
    if proof.rows != rows or proof.problems:
        raise RuntimeError(f"{proof.rows} of {rows} rows are proven; {proof.problems[:3]}")
    figures = {
        "benchmark": "archive",
        "store": bench.settings.audit_log.archive_url.split(":", 1)[0],
        "rows": rows,
        "chunks": report.objects,
        "rows_per_chunk": round(rows / report.objects),
        "floor_seconds": round(floor.wall, 2),
        "seconds": round(cost.wall, 2),
        "ratio_of_floor": round(floor.wall / cost.wall, 3),
        "floor_cpu_seconds": round(floor.cpu, 2),
        "cpu_seconds": round(cost.client, 2),
        "server_cpu_seconds": round(cost.server, 2),
        "ratio_of_floor_cpu": round(floor.cpu / cost.cpu, 3),
        "objects_per_second": round(report.objects / cost.wall),
        "peak_memory_mb": round(peak_memory_mb()),
        "bytes": report.written,
    }
    print(json.dumps(figures))


_SIZE = {"ROWS": "5000000", "TENANTS": "10", "DAYS": "500"}

if __name__ == "__main__":
    main()
