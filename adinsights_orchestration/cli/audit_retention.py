"""`adinsights audit retention`: what would be deleted, and deleting it.

Belongs here: asking, and showing the answer. Does not belong here: deciding and deleting (`audit_log`).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adinsights_orchestration.cli import process
from adinsights_orchestration.cli.audit_archive import TableOption
from adinsights_orchestration.cli.entry import EXIT_NOT_WELL
from adinsights_orchestration.clock import utc_now

if TYPE_CHECKING:
    from adinsights_orchestration.audit_log.model import At
    from adinsights_orchestration.audit_log.retention.run import RetentionReport
    from adinsights_orchestration.audit_log.tenant_names import TenantName

_SHOWN = 20  # of each reason
ApplyOption = Annotated[bool, typer.Option("--apply", help="Do it; without this only what would be done is told.")]


def register(app: typer.Typer) -> None:
    """Adds the command to the group."""
    app.command()(retention)


def retention(apply: ApplyOption = False, table: TableOption = "", as_json: process.JsonOption = False) -> None:
    """Delete rows that are past their window and proven archived. Tells what would go; deletes with --apply."""
    from adinsights_orchestration.alerting.operating.maintenance import around
    from adinsights_orchestration.audit_log.alerts import set_off_by
    from adinsights_orchestration.audit_log.own_history import archived_table
    from adinsights_orchestration.audit_log.retention import showing
    from adinsights_orchestration.audit_log.retention.again import archive_again, not_held_any_more
    from adinsights_orchestration.audit_log.retention.run import Retention
    from adinsights_orchestration.audit_log.source import AUDIT_LOG
    from adinsights_orchestration.audit_log.tenant_names import tenant_names
    from adinsights_orchestration.cli.runs import requester
    from adinsights_orchestration.cli.telling import tell_made

    settings, source = process.settings(), archived_table(table)
    store = process.open_ops_store(settings)
    again, unproven = archive_again(settings, store), not_held_any_more(settings, store)
    run = Retention(settings, store, source, utc_now, requester(), again, apply, unproven)
    set_off = set_off_by(showing.KEY.to_user_string())
    made = apply and source is AUDIT_LOG  # the asset and its checks are of the audit log's rows
    with around(store, *set_off, author=requester(), reason="retention is at work") if made else nullcontext():
        report = run.run()
    if made:
        tell_made(showing.KEY, showing.of_run(report, tenant_names(store)))
    if as_json:
        process.print_json(_document(report, tenant_names(store)))
    else:
        process.print_rows(
            _rows(report, tenant_names(store)), as_json=False, empty="no row is past its window", title=_title(report)
        )
        for line in left(report):
            process.say(line, style="yellow")
        if report.anew:
            process.say(_anew(report), style="yellow")
        if report.gone:
            process.say(f"{len(report.gone):,} tenants' days were gone already: somebody else had deleted them.")
        if report.dry_run and report.rows:
            process.say("Nothing was deleted. The same command with --apply does it.")
    raise typer.Exit(EXIT_NOT_WELL if left(report) else 0)


def _title(report: RetentionReport) -> str:
    verb = "would go" if report.dry_run else "deleted"
    return f"{report.rows:,} rows {verb} (archive {report.archive.value})"


def _rows(report: RetentionReport, name: TenantName) -> list[dict[str, Any]]:
    found = report.by_tenant_and_month().items()
    return [
        {"tenant": str(tenant), "name": name(tenant), "month": month, "rows": rows} for (tenant, month), rows in found
    ]


def _anew(report: RetentionReport) -> str:
    return (
        f"{sum(report.anew.values()):,} of these rows are of {len(report.anew):,} tenants' days that differ from their"
        " archive: with --apply they are archived anew, and go after that. --json names the days."
    )


def left(report: RetentionReport) -> list[str]:
    """What stays although it is due, reason by reason; of many days the first ones by name."""
    reasons = {
        "differ from their archive; they stay until they are archived anew": [
            f"{at[0]} {at[1]}" for at in report.unequal
        ],
        "had somebody in the way; they go another time": _named(report.blocked),
        "the archive does not hold any more; they stay": _named(report.unproven),
        "lack what was archived; they stay until somebody has decided (docs/runbook.md)": _named(report.incomparable),
    }
    told = {f"tenants' days {reason}": found for reason, found in reasons.items()}
    told["days could not be archived anew"] = [f"{day} ({why})" for day, why in report.not_rearchived.items()]
    lines = []
    for reason, found in told.items():
        if found:
            lines += [f"{len(found):,} {reason}:", *(f"  {each}" for each in found[:_SHOWN])]
        if len(found) > _SHOWN:
            lines.append(f"  {len(found) - _SHOWN:,} more; --json names them all")
    return lines + ([f"{len(report.left):,} tenants' days were left for the next run"] if report.left else [])


def _named(days: Mapping[At, str]) -> list[str]:
    return [f"{tenant} {day} ({why})" for (tenant, day), why in days.items()]


def _document(report: RetentionReport, name: TenantName) -> dict[str, Any]:
    return {
        "source": report.source,
        "dry_run": report.dry_run,
        "archive": report.archive.value,
        "rows": report.rows,
        "by_tenant_and_month": _rows(report, name),
        "unequal": [{"tenant": str(tenant), "day": day.isoformat()} for tenant, day in report.unequal],
        "anew": [
            {"tenant": str(tenant), "day": day.isoformat(), "rows": rows} for (tenant, day), rows in report.anew.items()
        ],
        "not_rearchived": [{"day": day.isoformat(), "why": why} for day, why in report.not_rearchived.items()],
        "unproven": _whys(report.unproven),
        "incomparable": _whys(report.incomparable),
        "gone": len(report.gone),
        "blocked": _whys(report.blocked),
        "left": len(report.left),
        "transactions": report.transactions,
        "longest_seconds": round(report.longest_seconds, 3),
    }


def _whys(days: Mapping[At, str]) -> list[dict[str, str]]:
    return [{"tenant": str(tenant), "day": day.isoformat(), "why": why} for (tenant, day), why in days.items()]
