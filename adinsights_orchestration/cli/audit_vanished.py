"""`adinsights audit accept-vanished`: answering for archived rows that are gone from their table.

Belongs here: asking, and showing the answer. Does not belong here: which rows these are (`audit_log`).
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from adinsights_orchestration.cli import process
from adinsights_orchestration.cli.audit_archive import TableOption
from adinsights_orchestration.cli.audit_retention import ApplyOption

_SHOWN = 200  # tenants' days, in the table; --json has them all


def register(app: typer.Typer) -> None:
    """Adds the command to the group."""
    app.command("accept-vanished")(accept_vanished)


def accept_vanished(
    first: Annotated[str, typer.Option("--from", metavar="DAY", help="First day (UTC) of the rows, YYYY-MM-DD.")],
    last: Annotated[str, typer.Option("--to", metavar="DAY", help="Last day (UTC) of the rows, included.")],
    tenant: Annotated[str, typer.Option("--tenant", help="Only this tenant's rows: slug, name or id.")] = "",
    reason: Annotated[
        str, typer.Option("--reason", help="Why they are gone; kept, and shown to the tenants. --apply needs it.")
    ] = "",
    apply: ApplyOption = False,
    table: TableOption = "",
    as_json: process.JsonOption = False,
) -> None:
    """Answer for archived rows that vanished from the table. Tells which; with --apply nobody hears of them again."""
    from adinsights_orchestration.audit_log.days import day_of
    from adinsights_orchestration.audit_log.own_history import archived_table
    from adinsights_orchestration.audit_log.retention.answering import Answer
    from adinsights_orchestration.audit_log.retention.answering import accept_vanished as run
    from adinsights_orchestration.audit_log.tenant_names import tenant_names
    from adinsights_orchestration.cli.runs import requester
    from adinsights_orchestration.cli.selection import tenant_id

    settings, source = process.settings(), archived_table(table)
    whose = tenant_id(settings, tenant) if tenant else None
    answer = Answer(day_of(first, "--from"), day_of(last, "--to"), reason, whose)
    store = process.open_ops_store(settings)
    found = run(settings, store, source, answer, actor=requester(), apply=apply)
    name = tenant_names(store)
    rows: list[dict[str, Any]] = [
        {"tenant": name(each), "day": str(day), "rows": count} for (each, day), count in found.rows.items()
    ]
    if as_json:
        about = {"dry_run": found.dry_run, "run": str(found.run) if found.run else None}
        process.print_json({**about, "rows": sum(found.rows.values()), "others": found.others, "vanished": rows})
        return
    verb = "vanished" if found.dry_run else "vanished; they are answered for"
    title = f"{sum(found.rows.values()):,} archived rows {verb}"
    process.print_rows(rows[:_SHOWN], as_json=False, empty="no row of these days has vanished", title=title)
    if len(rows) > _SHOWN:
        process.say(f"{len(rows) - _SHOWN:,} more tenants' days; --json names them all", style="yellow")
    if found.others:
        process.say(f"{found.others:,} other rows have vanished, of other days or tenants", style="yellow")
    if found.dry_run and rows:
        process.say(
            "Nothing was changed. The archive has these rows: `adinsights audit restore --live` brings them back."
            " If they may be gone, the same command with --reason and --apply says so."
        )
