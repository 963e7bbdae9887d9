"""`adinsights audit expire`: what leaves the archive itself, told first and done when it is said.

Belongs here: asking, and showing the answer. Does not belong here: deciding and removing (`audit_log`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from adinsights_orchestration.cli import process
from adinsights_orchestration.cli.audit_retention import ApplyOption
from adinsights_orchestration.cli.entry import EXIT_NOT_WELL

if TYPE_CHECKING:
    from adinsights_orchestration.audit_log.expiry import ExpiryReport
    from adinsights_orchestration.audit_log.removing import Archive, Swept

_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Adds the commands to the group."""
    app.command()(expire)


def expire(apply: ApplyOption = False, as_json: process.JsonOption = False) -> None:
    """Take out of the archive what contracts keep no longer. Tells what would go; removes with --apply."""
    from adinsights_orchestration.audit_log.expiry import expire as run

    report = run(archive(), apply=apply)
    rows = [
        {"tenant": str(tenant), "month": month, "rows": count}
        for (tenant, month), count in report.by_tenant_and_month().items()
    ]
    if as_json:
        process.print_json(_document(report, rows))
    else:
        total = sum(report.rows.values())
        title = (
            f"{total:,} rows in {report.objects:,} objects {'would leave' if report.dry_run else 'left'} the archive"
        )
        process.print_rows(rows, as_json=False, empty="nothing is past its time in the archive", title=title)
        for why, days in report.why_stays().items():
            process.say(f"{days:,} tenants' days are past their time and stay: {why}", style="yellow")
        say_swept(report.swept, report.pending)
        if report.dry_run and report.rows:
            process.say("Nothing was removed. `adinsights audit expire --apply` does it.")
    raise typer.Exit(EXIT_NOT_WELL if report.swept.problem else 0)


def archive() -> Archive:
    """The audit log's archive, as the settings name it, for whoever types."""
    from adinsights_orchestration.audit_log.removing import Archive
    from adinsights_orchestration.audit_log.source import AUDIT_LOG
    from adinsights_orchestration.cli.runs import requester

    settings = process.settings()
    return Archive(settings, process.open_ops_store(settings), AUDIT_LOG, requester())


def say_swept(swept: Swept, pending: int) -> None:
    """What the store made of it."""
    if swept.removed:
        process.say(f"{swept.removed:,} objects removed, {swept.size:,} bytes")
    for key, said in list(swept.refused.items())[:_SHOWN]:
        process.say(f"{key}: kept by the store for now ({said})", style="yellow")
    if swept.problem:
        process.say(swept.problem, style="red")
    if pending:
        process.say(
            f"{pending:,} objects that the chain says are gone are still in the store; each night asks for them again."
        )


def _document(report: ExpiryReport, rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "dry_run": report.dry_run,
        "rows": sum(report.rows.values()),
        "objects": report.objects,
        "bytes": report.size,
        "by_tenant_and_month": rows,
        "stays": report.why_stays(),
        "removed": report.swept.removed,
        "refused": report.swept.refused,
        "pending": report.pending,
        "problem": report.swept.problem,
    }
