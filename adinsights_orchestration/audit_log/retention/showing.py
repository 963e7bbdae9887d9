"""What the UI shows of retention: counts and dates, rows per day as a small picture; never what a row says.

Belongs here: rendering reports as metadata. Does not belong here: the runs (`run`), what is wrong with the table
(`automation`, whose checks say it).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from adinsights_orchestration.audit_log import tallies
from adinsights_orchestration.audit_log.archive.showing import picture
from adinsights_orchestration.audit_log.model import At
from adinsights_orchestration.audit_log.retention.census import Ages, Census
from adinsights_orchestration.audit_log.retention.run import RetentionReport
from adinsights_orchestration.audit_log.tenant_names import TenantName

KEY = dg.AssetKey(["audit_log", "retention"])
_DAYS = 20
_AFTERWARDS = (
    "What a run deleted of a tenant, and from which days, is in the tenant's audit row `audit_log_retention_deleted`."
)


def of_run(report: RetentionReport, name: TenantName) -> dict[str, Any]:
    """What a run did, or would have done.

    Args:
        report: The run.
        name: What people call a tenant.
    """
    rows = {at: (count,) for at, count in report.by_tenant_and_month().items()}
    elsewhere = "`adinsights audit retention` shows every line." if report.dry_run else _AFTERWARDS
    return {
        "dry run": str(report.dry_run).lower(),
        "archive": report.archive.value,
        "rows": report.rows,
        "tenants": len(report.by_tenant()),
        "by tenant and month": tallies.by_tenant_and_month(rows, ["rows"], name, elsewhere),
        "tenants' days that differ from their archive": len(report.unequal) + len(report.anew),
        "rows that would go after being archived anew": sum(report.anew.values()),
        "days archived anew": len(report.rearchived),
        "not to be archived anew": _days({str(day): why for day, why in report.not_rearchived.items()}),
        "not held by the archive any more": _days(_named(report.unproven)),
        "not to be compared any more": _days(_named(report.incomparable)),
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


def _named(days: Mapping[At, str]) -> dict[str, str]:
    return {f"{tenant} {day}": why for (tenant, day), why in days.items()}


def _days(found: Mapping[str, str]) -> dg.JsonMetadataValue:
    return tallies.first_named(found, _DAYS, "`adinsights audit retention --json` names all")
