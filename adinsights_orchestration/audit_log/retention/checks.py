"""The checks of `audit_log/retention`: two for each table that is archived, by the names that alerts and runbook know.

Belongs here: their names, and what a census means for them. Does not belong here: counting (`census`), running them
(`automation`). Metadata holds counts and dates, never what a row says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import date

import dagster as dg

from adinsights_orchestration.audit_log.archive.showing import picture
from adinsights_orchestration.audit_log.model import At
from adinsights_orchestration.audit_log.retention.census import Ages, Census
from adinsights_orchestration.audit_log.retention.showing import KEY
from adinsights_orchestration.audit_log.source import AUDIT_LOG, Source
from adinsights_orchestration.audit_log.tenant_names import TenantName

TOO_OLD, VANISHED = "no_row_past_its_window", "no_row_vanished"
FIRST_DAY = "ADINSIGHTS_AUDIT_LOG__FIRST_DAY"
_SHOWN = 20


def check_of(source: Source, check: str) -> str:
    """A check's name: the audit log's is the plain one."""
    return check if source is AUDIT_LOG else f"{source.name}_{check}"


def check_specs(source: Source) -> Iterator[dg.AssetCheckSpec]:
    """What is checked of a table."""
    row = "audit row" if source is AUDIT_LOG else f"row of {source.name}"
    too_old = f"No {row} is older than its window plus two days, but for holds."
    gone = f"No archived {row} left the table before its window was over or while its day was held."
    yield dg.AssetCheckSpec(check_of(source, TOO_OLD), asset=KEY, description=too_old)
    yield dg.AssetCheckSpec(check_of(source, VANISHED), asset=KEY, description=gone)


def judged(
    source: Source, census: Census, ages: Ages, name: TenantName, first_day: date | None = None
) -> Iterator[dg.AssetCheckResult]:
    """The results of a table's checks.

    Args:
        source: The table.
        census: What it holds.
        ages: What that means.
        name: What people call a tenant.
        first_day: The archive's first day, where nothing goes unarchived.
    """
    yield _too_old(source, census, ages, name, first_day)
    yield _vanished(source, ages, name)


def _too_old(
    source: Source, census: Census, ages: Ages, name: TenantName, first_day: date | None
) -> dg.AssetCheckResult:
    """The check that nothing is kept for too long."""
    rows = sum(ages.overdue.values())
    passed = not rows and not ages.unknown and not census.undated
    parts = [f"{rows:,} rows are past their window by more than two days"] if rows else []
    too_early = {at: count for at, count in ages.overdue.items() if first_day and at[1] < first_day}
    if too_early:
        their_first = min(day for _, day in too_early)
        parts.append(
            f"{sum(too_early.values()):,} of them are older than {first_day}, the first day that is archived, and never"
            f" go: set {FIRST_DAY} to {their_first} or earlier, and archive these days"
        )
    if ages.unknown:
        parts.append(f"{sum(ages.unknown.values()):,} old rows are of {len(ages.unknown)} tenants nobody knows")
    if census.undated:
        parts.append(f"{census.undated:,} rows have no time, or one before the year 1")
    oldest = census.oldest.isoformat() if census.oldest else "none"
    return dg.AssetCheckResult(
        asset_key=KEY,
        check_name=check_of(source, TOO_OLD),
        passed=passed,
        description="; ".join(parts) or f"The oldest day in the table is {oldest}.",
        metadata={
            "oldest day": oldest,
            "overdue rows": rows,
            "overdue rows before the archive's first day": sum(too_early.values()),
            "held rows past their window": sum(ages.held.values()),
            "overdue by tenant": dg.MetadataValue.json(_by_tenant(ages.overdue, name)),
            "unknown tenants": dg.MetadataValue.json({str(each): rows for each, rows in ages.unknown.items()}),
            "rows per day": dg.MetadataValue.md(picture(census.per_day())),
        },
    )


def _vanished(source: Source, ages: Ages, name: TenantName) -> dg.AssetCheckResult:
    """The check that nobody else deletes audit rows."""
    rows, departed, coming = (sum(each.values()) for each in (ages.vanished, ages.departed, ages.awaited))
    along = f" {departed:,} went with {len({each for each, _ in ages.departed})} tenants who left." if departed else ""
    awaited = f" {coming:,} never came back: give the restore again, which died or is at work." if coming else ""
    return dg.AssetCheckResult(
        asset_key=KEY,
        check_name=check_of(source, VANISHED),
        passed=not rows,
        description=_gone(source, ages)
        if rows
        else f"Every archived row inside its window or under a hold is in the table.{along}{awaited}",
        metadata={
            "rows": rows,
            "by tenant": dg.MetadataValue.json(_by_tenant(ages.vanished, name)),
            "restored and not there yet": dg.MetadataValue.json(_by_tenant(ages.awaited, name)),
            "went with tenants who left": dg.MetadataValue.json(_by_tenant(ages.departed, name)),
            "days": dg.MetadataValue.json(sorted({day.isoformat() for _, day in ages.vanished})[:_SHOWN]),
        },
    )


def _gone(source: Source, ages: Ages) -> str:
    days = {day for _, day in ages.vanished}
    which = f"--from {min(days)} --to {max(days)}" + ("" if source is AUDIT_LOG else f" --table {source.name}")
    return (
        f"{sum(ages.vanished.values()):,} archived rows left the table before their time; the archive has them. Restore"
        f" them (`adinsights audit restore {which} --live --hold-until DAY`), or answer for them (`adinsights audit"
        f" accept-vanished {which}`): until then this fails."
    )


def _by_tenant(rows: Mapping[At, int], name: TenantName) -> dict[str, int]:
    counted: Counter[str] = Counter()
    for (tenant, _), count in rows.items():
        counted[name(tenant)] += count
    return dict(counted.most_common(_SHOWN))
