"""`adinsights audit holds`: the holds on restored rows, and ending one early.

Belongs here: asking and showing. Does not belong here: what a hold means (`audit_log.windows`), legal holds, which are
lifted in `tenants.yaml` alone.
"""

from __future__ import annotations

from typing import Annotated

import typer

from adinsights_orchestration.cli import process
from adinsights_orchestration.cli.audit_archive import TableOption
from adinsights_orchestration.clock import utc_now

holds_app = typer.Typer(
    help="Holds on restored rows: list them, end one early.", no_args_is_help=True, rich_markup_mode=None
)


def register(app: typer.Typer) -> None:
    """Adds the commands to the group."""
    app.add_typer(holds_app, name="holds")


@holds_app.command("list")
def list_(
    ended: Annotated[bool, typer.Option("--all", help="Also those that have ended.")] = False,
    table: TableOption = "",
    as_json: process.JsonOption = False,
) -> None:
    """Show the holds on restored rows that are in force."""
    from adinsights_orchestration.audit_log.holds import list_holds
    from adinsights_orchestration.audit_log.own_history import archived_table

    source, store = archived_table(table), process.open_ops_store(process.settings())
    with store.begin() as connection:
        found = list_holds(connection, source.name, utc_now(), ended=ended)
    rows = [
        {
            "id": each.id,
            "tenant": str(each.hold.tenant_id) if each.hold.tenant_id else "all",
            "from": str(each.hold.first_day),
            "to": str(each.hold.last_day),
            "until": f"{each.hold.until:%Y-%m-%d %H:%M}",
            "author": each.author,
            "reason": each.hold.reason,
        }
        for each in found
    ]
    process.print_rows(rows, as_json=as_json, empty="no hold is in force", title="holds on restored rows")


@holds_app.command("end")
def end(
    hold: Annotated[int, typer.Argument(metavar="ID", help="The hold's number, as `holds list` shows it.")],
    yes: process.YesOption = False,
    table: TableOption = "",
    as_json: process.JsonOption = False,
) -> None:
    """End a hold on restored rows now: from the next night on retention deletes them again."""
    from adinsights_orchestration.audit_log.holds import end_hold, one_hold
    from adinsights_orchestration.audit_log.own_history import archived_table
    from adinsights_orchestration.cli.runs import requester
    from adinsights_orchestration.tenants.store import load_registry

    source, store = archived_table(table), process.open_ops_store(process.settings())
    now = utc_now()
    left = {tenant.id for tenant in load_registry(store).tenants if tenant.retired}
    with store.begin() as connection:
        found = one_hold(connection, source.name, hold, now)
        if yes:
            end_hold(connection, source.name, found, requester(), now, left)
    whose = f"tenant {found.hold.tenant_id}" if found.hold.tenant_id else "all tenants"
    what = f"hold {hold} on {whose}, {found.hold.first_day} to {found.hold.last_day}"
    if as_json:
        process.print_json(
            {"id": hold, "ended": yes, "until": found.hold.until.isoformat() if found.hold.until else None}
        )
    elif yes:
        process.say(f"ended: {what}. From the next night on retention deletes what is past its window.")
    else:
        process.say(f"{what}, until {found.hold.until:%Y-%m-%d %H:%M} UTC. With --yes it ends now.")
