"""What a month's compaction gains: objects, bytes, and the cost of proving the month, over the same month uncompacted.

There is no floor from outside: the same archive is proven before and after. ROWS, TENANTS and DAYS change the size; a
month's days are compacted, so DAYS beyond 31 are more months.
"""

from __future__ import annotations

import json
import os
from datetime import timedelta

from adinsights_orchestration.audit_log.archive.run import Archiver
from adinsights_orchestration.audit_log.leaving.compaction import compact
from adinsights_orchestration.audit_log.leaving.removing import Archive
from adinsights_orchestration.audit_log.reading.verify import VerifyReport, verify_range
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from adinsights_orchestration.audit_log.store.opening import open_store
from adinsights_orchestration.clock import utc_now
from benchmarks._audit_rows import FIRST, Bench, filled
from benchmarks._machine import Cost, peak_memory_mb

_SIZE = {"ROWS": "75000", "TENANTS": "50", "DAYS": "31"}


def main() -> None:
    rows, tenants, days = (int(os.environ.get(name, default)) for name, default in _SIZE.items())
    with filled(rows, tenants, days) as bench:
        Archiver(bench.settings, bench.ops, AUDIT_LOG).run(FIRST, FIRST + timedelta(days=days - 1), actor="benchmark")
        before, proving_before = _proven(bench, days)
        archive = Archive(bench.settings, bench.ops, AUDIT_LOG, "benchmark", clock=utc_now)
        with bench.measured() as cost:
            report = compact(archive, apply=True)
        after, proving_after = _proven(bench, days)
    if after.problems or (before.rows, after.rows) != (rows, rows):
        raise RuntimeError(f"{after.rows} of {rows} rows are proven after it: {after.problems[:1]}")
    figures = {
        "benchmark": "compaction",
        "rows": rows,
        "months": len(report.months),
        "objects_before": before.objects,
        "objects_after": after.objects,
        "bytes_before": before.size,
        "bytes_after": after.size,
        "ratio_of_bytes": round(after.size / before.size, 3),
        "seconds": round(cost.wall, 2),
        "cpu_seconds": round(cost.client, 2),
        "proving_cpu_before": round(proving_before.client, 2),
        "proving_cpu_after": round(proving_after.client, 2),
        "ratio_of_proving_cpu": round(proving_after.client / proving_before.client, 3),
        "peak_memory_mb": round(peak_memory_mb()),
    }
    print(json.dumps(figures))


def _proven(bench: Bench, days: int) -> tuple[VerifyReport, Cost]:
    with bench.measured() as cost:
        report = verify_range(open_store(bench.settings.audit_log), AUDIT_LOG, FIRST, FIRST + timedelta(days=days - 1))
    return report, cost


if __name__ == "__main__":
    main()
