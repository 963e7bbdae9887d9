"""What the UI shows of retention: counts and dates, rows per day as a small picture; never what a row says.

Belongs here: rendering reports as metadata. Does not belong here: the runs (`run`), what is wrong with the table
(`automation`, whose checks say it).
"""

from __future__ import annotations

from typing import Any

import dagster as dg

from adinsights_orchestration.audit_log.archive.showing import picture
from adinsights_orchestration.audit_log.retention.census import Ages, Census
from adinsights_orchestration.audit_log.retention.run import RetentionReport
from adinsights_orchestration.audit_log.tenant_names import TenantName

KEY = dg.AssetKey(["audit_log", "retention"])
_LINES, _DAYS = 200, 20


def of_run(report: RetentionReport, name: TenantName) -> dict[str, Any]:
    """What a run did, or would have done.

    Args:
        report: The run.
        name: What people call a tenant.
    """
    lines = list(report.by_tenant_and_month().items())[:_LINES]
    table = "".join(f"\n| {name(tenant)} | {month} | {rows:,} |" for (tenant, month), rows in lines)
    unproven = {f"{tenant} {day}": why for (tenant, day), why in sorted(report.unproven.items())[:_DAYS]}
    incomparable = {f"{tenant} {day}": why for (tenant, day), why in sorted(report.incomparable.items())[:_DAYS]}
    failed = {str(day): why for day, why in sorted(report.not_rearchived.items())[:_DAYS]}
    return {
        "dry run": str(report.dry_run).lower(),
        "archive": report.archive.value,
        "rows": report.rows,
        "tenants": len(report.by_tenant()),
        "by tenant and month": dg.MetadataValue.md(f"| tenant | month | rows |\n|---|---|---|{table}"),
        "tenants' days that differ from their archive": len(report.unequal) + len(report.anew),
        "rows that would go after being archived anew": sum(report.anew.values()),
        "days archived anew": len(report.rearchived),
        "not to be archived anew": dg.MetadataValue.json(failed),
        "not held by the archive any more": dg.MetadataValue.json(unproven),
        "not to be compared any more": dg.MetadataValue.json(incomparable),
        "tenants' days that were gone already": len(report.gone),
        "tenants' days left": len(report.left) + len(report.blocked),
        "transactions": report.transactions,
        "longest transaction (s)": round(report.longest_seconds, 3),
        "paused (s)": round(report.paused_seconds, 1),
    }


def of_table(census: Census, ages: Ages) -> dict[str, Any]:
    """What the table holds after it."""
    return {
        "oldest day kept": census.oldest.isoformat() if census.oldest else "none",
        "rows kept": sum(census.rows.values()),
        "rows that came after their day was archived": sum(ages.late.values()),
        "rows per day": dg.MetadataValue.md(picture(census.per_day())),
    }
