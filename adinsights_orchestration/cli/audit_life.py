"""`adinsights audit expire`, `compact` and `mend`: the archive's own life, told first and done when it is said.

Belongs here: asking, and showing the answer. Does not belong here: deciding and removing (`audit_log`).
"""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adinsights_orchestration.cli import process
from adinsights_orchestration.cli.audit_archive import FromOption, TableOption, ToOption, range_of
from adinsights_orchestration.cli.audit_retention import ApplyOption
from adinsights_orchestration.cli.entry import EXIT_NOT_WELL
from adinsights_orchestration.errors import ConfigurationError

if TYPE_CHECKING:
    from adinsights_orchestration.audit_log.leaving.expiry import ExpiryReport
    from adinsights_orchestration.audit_log.leaving.removing import Archive, Swept

_SHOWN = 20


def register(app: typer.Typer) -> None:
    """Adds the commands to the group."""
    app.command()(expire)
    app.command()(compact)
    app.command()(mend)


def expire(apply: ApplyOption = False, as_json: process.JsonOption = False) -> None:
    """Take out of the archive what contracts keep no longer. Tells what would go; removes with --apply."""
    from adinsights_orchestration.audit_log.leaving import showing
    from adinsights_orchestration.audit_log.leaving.expiry import expire as run
    from adinsights_orchestration.cli.telling import tell_made

    report = run(archive(), apply=apply)
    if apply:
        tell_made(showing.EXPIRY, showing.of_expiry(report))
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


def compact(
    month: Annotated[str, typer.Option("--month", metavar="MONTH", help="Only this month, YYYY-MM.")] = "",
    apply: ApplyOption = False,
    as_json: process.JsonOption = False,
) -> None:
    """Make each tenant's small objects of a settled month one. Tells what there is to gain; does it with --apply."""
    from adinsights_orchestration.audit_log.leaving import showing
    from adinsights_orchestration.audit_log.leaving.compaction import compact as run
    from adinsights_orchestration.cli.telling import tell_made

    report = run(archive(), apply=apply, month=_month(month))
    if apply:
        tell_made(showing.COMPACTION, showing.of_compaction(report))
    rows = [
        {
            "month": f"{each.first:%Y-%m}",
            "tenants": each.tenants,
            "objects before": each.before,
            "objects after": each.after,
            "bytes before": each.size_before,
            "bytes after": "" if report.dry_run else each.size_after,
        }
        for each in report.months
    ]
    if as_json:
        swept = {"removed": report.swept.removed, "refused": report.swept.refused, "pending": report.pending}
        process.print_json({"dry_run": report.dry_run, "months": rows, **swept})
    else:
        title = "months that would be compacted" if report.dry_run else "months that were compacted"
        process.print_rows(rows, as_json=False, empty="no settled month has anything to gain", title=title)
        say_swept(report.swept, report.pending)
        if report.dry_run and rows:
            process.say("Nothing was changed. `adinsights audit compact --apply` does it.")
    raise typer.Exit(EXIT_NOT_WELL if report.swept.problem else 0)


def mend(
    first: FromOption = "",
    last: ToOption = "",
    apply: ApplyOption = False,
    table: TableOption = "",
    as_json: process.JsonOption = False,
) -> None:
    """Find damaged objects, and write anew what the table still holds. Tells what is damaged; mends with --apply."""
    from adinsights_orchestration.audit_log.leaving.mending import mend as run

    target = archive(table)
    begin, end = range_of(target.settings, first, last)
    report = run(target, begin, end, apply=apply)
    rows = [
        {"tenant": str(each.at[0]), "day": str(each.at[1]), "rows": each.rows, "who else has them": each.witness.value}
        for each in report.left
    ]
    if as_json:
        mended = [{"tenant": str(tenant), "day": str(day)} for tenant, day in report.mended]
        process.print_json({"dry_run": report.dry_run, "objects": report.objects, "mended": mended, "damaged": rows})
    else:
        title = f"damaged tenants' days; {len(report.mended)} others were mended" if rows else ""
        empty = f"{len(report.mended)} tenants' days were mended" if report.mended else "nothing is damaged"
        process.print_rows(rows, as_json=False, empty=f"{empty}; {report.objects:,} objects read", title=title)
        for each in report.left[:_SHOWN]:
            process.say(each.problem, style="red")
        if report.dry_run and rows:
            process.say("Nothing was written. The same command with --apply mends what the table holds.")
    raise typer.Exit(EXIT_NOT_WELL if rows else 0)


def _month(text: str) -> date | None:
    if not text:
        return None
    try:
        return date.fromisoformat(f"{text}-01")
    except ValueError:
        raise ConfigurationError(
            f"{text!r} is no month", place="--month", next_step="Write it as 2026-01; days are UTC."
        ) from None


def archive(table: str = "") -> Archive:
    """A table's archive, the audit log's without a name, where the settings say, for whoever types."""
    from adinsights_orchestration.audit_log.leaving.removing import Archive
    from adinsights_orchestration.audit_log.own_history import archived_table
    from adinsights_orchestration.cli.runs import requester

    settings = process.settings()
    return Archive(settings, process.open_ops_store(settings), archived_table(table), requester())


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
