"""`adinsights audit restore`: what the archive could bring back, and bringing it back.

Belongs here: asking, and showing the answer. Does not belong here: restoring (`audit_log.restore`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from adinsights_orchestration.cli import process
from adinsights_orchestration.cli.audit_archive import TableOption
from adinsights_orchestration.cli.audit_retention import ApplyOption
from adinsights_orchestration.cli.entry import EXIT_NOT_WELL

if TYPE_CHECKING:
    from adinsights_orchestration.audit_log.restore.report import RestoreReport

_SHOWN = 20
FirstOption = Annotated[str, typer.Option("--from", metavar="WHEN", help="First day (UTC), or moment.")]
LastOption = Annotated[
    str, typer.Option("--to", metavar="WHEN", help="Last day (UTC), included; or the moment before which rows are.")
]
TenantOption = Annotated[
    list[str] | None, typer.Option("--tenant", help="Only this tenant's rows: slug, name or id; repeats.")
]
IntoOption = Annotated[str, typer.Option("--into", metavar="TABLE", help="A table of its own for the rows.")]
LiveOption = Annotated[bool, typer.Option("--live", help="Into the table that was archived; needs --hold-until.")]
HoldOption = Annotated[
    str, typer.Option("--hold-until", metavar="DAY", help="Last day that retention leaves the rows alone.")
]


def register(app: typer.Typer) -> None:
    """Adds the command to the group."""
    app.command()(restore)


def restore(  # noqa: PLR0913, PLR0917  (a parameter for each option)
    first: FirstOption,
    last: LastOption,
    tenant: TenantOption = None,
    into: IntoOption = "",
    live: LiveOption = False,
    hold_until: HoldOption = "",
    apply: ApplyOption = False,
    table: TableOption = "",
    as_json: process.JsonOption = False,
) -> None:
    """Bring archived rows back, into a table of their own or the live one. Tells what would come; does with --apply."""
    from adinsights_orchestration.audit_log.days import moment_of
    from adinsights_orchestration.audit_log.own_history import archived_table
    from adinsights_orchestration.audit_log.restore.plan import Wanted
    from adinsights_orchestration.audit_log.restore.run import Order, Restore
    from adinsights_orchestration.cli.runs import requester
    from adinsights_orchestration.cli.selection import tenant_id

    source = archived_table(table)
    tenants = tuple(tenant_id(process.settings(), each) for each in tenant or ())
    order = Order(
        wanted=Wanted(moment_of(first, "--from"), moment_of(last, "--to", end=True), tenants),
        into=into or None,
        live=live,
        hold_until=moment_of(hold_until, "--hold-until", end=True) if hold_until else None,
        apply=apply,
    )
    settings = process.settings()
    report = Restore(settings, process.open_ops_store(settings), source, requester()).run(order)
    if as_json:
        process.print_json(document(report))
    else:
        _show(report)
    raise typer.Exit(0 if report.well else EXIT_NOT_WELL)


def document(report: RestoreReport) -> dict[str, Any]:
    """The report for a program."""
    return {
        "dry_run": report.dry_run,
        "run": str(report.run) if report.run else None,
        **report.summary(),
        "hold_until": report.hold_until.isoformat() if report.hold_until else None,
        "by_tenant_and_month": rows(report),
        "missing": [day.isoformat() for day in report.missing],
        "left_the_archive": report.left,
        "problems": report.problems,
    }


def rows(report: RestoreReport) -> list[dict[str, Any]]:
    """Counts by tenant and month; of a dry run only what the archive has."""
    return [
        {"tenant": str(tenant), "month": f"{month:%Y-%m}", "archived": counts.archived}
        | (
            {}
            if report.dry_run
            else {
                "restored": counts.came,
                "there already": counts.there,
                "changed since": counts.changed,
                "without its user": counts.unlinked,
            }
        )
        for (tenant, month), counts in sorted(report.counts.items())
    ]


def _show(report: RestoreReport) -> None:
    from adinsights_orchestration.audit_log.days import named

    total = report.total
    said = f"{total.archived:,} rows would come" if report.dry_run else f"{total.came:,} rows restored"
    title = f"{said} into {report.into}; {report.days} tenants' days, {report.size:,} bytes"
    process.print_rows(rows(report), as_json=False, empty="nothing is archived of that", title=title)
    _say_first([f"{days}: not archived" for days in named(report.missing)])
    _say_first([f"does not come back, it has left the archive: {left}" for left in report.left])
    for problem in report.problems:
        process.say(problem, style="red")
    if total.changed:
        process.say(f"{total.changed:,} rows were changed after they had been archived; they stay as they are.")
    if report.dry_run and total.archived:
        process.say("Nothing was written. The same command with --apply does it; rows of days in part are fewer.")
    elif report.hold_until:
        process.say(f"Retention leaves these days alone until {report.hold_until:%Y-%m-%d %H:%M} UTC.")


def _say_first(lines: list[str]) -> None:
    for line in lines[:_SHOWN]:
        process.say(line, style="yellow")
    if len(lines) > _SHOWN:
        process.say(f"and {len(lines) - _SHOWN:,} more of these; --json names them all", style="yellow")
