"""`adinsights sync`: syncs for a person, in one run, followed to the end.

Belongs here: from options to one run of the job `sync_connections`. Does not belong here: following it (`following`),
the syncs themselves (`ingestion`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from adinsights_orchestration.cli import process
from adinsights_orchestration.cli.entry import EXIT_NOT_WELL

if TYPE_CHECKING:
    from adinsights_orchestration.tenants.model import Connection

Tenants = Annotated[list[str] | None, typer.Option("--tenant", help="Slug, name or id; may be repeated.")]
Providers = Annotated[list[str] | None, typer.Option("--provider", help="meta, google_ads ...; may be repeated.")]
Keys = Annotated[list[str] | None, typer.Option("--connection", help="Partition key, name or id; may be repeated.")]
HereOption = Annotated[bool, typer.Option("--here", help="Run in this process even if the UI answers.")]


def sync(
    tenant: Tenants = None,
    provider: Providers = None,
    connection: Keys = None,
    everybody: Annotated[bool, typer.Option("--all", help="Every connection that can be synced.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show which connections that would be.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Return as soon as Dagster has the run.")] = False,
    here: HereOption = False,
    as_json: process.JsonOption = False,
) -> None:
    """Sync connections now and follow them to the end.

    One run for all of them; a sync that runs already is followed, never doubled. Exit code 1 when one failed.

    Example: adinsights sync --tenant acme-jamaica --provider meta
    """
    if not (tenant or provider or connection or everybody):
        raise typer.BadParameter("say which connections: --tenant, --provider, --connection, or --all for every one")
    from adinsights_orchestration.cli.selection import select, served

    settings = process.settings()
    store = process.open_ops_store(settings)
    selection = select(served(store), tenant or (), provider or (), connection or ())
    for each in selection.skipped:
        process.say(f"left out: {each.partition_key} is {each.standing}")
    if dry_run or not selection.chosen:
        rows = [_planned(each) for each in selection.chosen]
        process.print_rows(rows, as_json=as_json, title="Would sync", empty="none of them can be synced")
        raise typer.Exit(0 if selection.chosen else EXIT_NOT_WELL)
    _sync(settings, store, [each.partition_key for each in selection.chosen], detach=detach, here=here, as_json=as_json)


def _sync(settings: Any, store: Any, partitions: list[str], *, detach: bool, here: bool, as_json: bool) -> None:
    from adinsights_orchestration.cli import following, runs

    run = following.JobRun(settings, store, runs.SYNC_JOB, partitions, as_json=as_json)
    config = {"partitions": partitions, "requested_by": runs.requester()}
    if detach:
        launched = run.detach(runs.SYNC_OP, config)
        process.print_json(launched) if as_json else process.say(f"Dagster has the run: {launched['url']}")
        return
    following.conclude(run.start(runs.SYNC_OP, config, here=here), title="Synced", as_json=as_json)


def _planned(each: Connection) -> dict[str, Any]:
    return {"partition": each.partition_key, "provider": each.provider.value, "standing": each.standing.value}
