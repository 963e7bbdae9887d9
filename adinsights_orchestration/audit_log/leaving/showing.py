"""What the UI shows of expiry and compaction: counts and dates, never what a row says.

Belongs here: rendering reports as metadata. Does not belong here: the reports (`expiry`, `compaction`).
"""

from __future__ import annotations

from collections import Counter
from datetime import date
from typing import TYPE_CHECKING, Any

import dagster as dg

from adinsights_orchestration.audit_log.archive.showing import picture

if TYPE_CHECKING:
    from adinsights_orchestration.audit_log.leaving.compaction import CompactionReport
    from adinsights_orchestration.audit_log.leaving.expiry import ExpiryReport

EXPIRY = dg.AssetKey(["audit_log", "expiry"])
COMPACTION = dg.AssetKey(["audit_log", "compaction"])


def of_expiry(report: ExpiryReport) -> dict[str, Any]:
    """What left the archive, or would have left it."""
    by_day: Counter[date] = Counter()
    for (_, day), rows in report.rows.items():
        by_day[day] += rows
    return {
        "dry run": report.dry_run,
        "rows that left": sum(report.rows.values()),
        "tenants": len({tenant for tenant, _ in report.rows}),
        "objects": report.objects,
        "bytes": report.size,
        "oldest day that left": str(min(by_day)) if by_day else "none",
        "newest day that left": str(max(by_day)) if by_day else "none",
        "past their time and stay": dg.MetadataValue.json(report.why_stays()),
        "objects removed": report.swept.removed,
        "objects that the store keeps for now": len(report.swept.refused),
        "the store's problem": report.swept.problem or "none",
        "rows per day": dg.MetadataValue.md(picture(by_day)),
    }


def of_compaction(report: CompactionReport) -> dict[str, Any]:
    """What a month's objects became, or would become."""
    before, after = (sum(getattr(month, name) for month in report.months) for name in ("size_before", "size_after"))
    return {
        "dry run": report.dry_run,
        "months": ", ".join(f"{month.first:%Y-%m}" for month in report.months) or "none",
        "objects before": sum(month.before for month in report.months),
        "objects after": sum(month.after for month in report.months),
        "bytes before": before,
        "bytes after": after,
        "objects removed": report.swept.removed,
        "objects that the store keeps for now": len(report.swept.refused),
    }
