"""`adinsights sync`: syncs for a person, in one run, followed to the end.

Belongs here: from options to one run of the job `sync_connections`, and its outcome as a table and an exit code. Does
not belong here: starting and following syncs (`ingestion`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from adinsights_orchestration.cli import process
from adinsights_orchestration.cli.entry import EXIT_INTERRUPTED, EXIT_NOT_WELL

Tenants = Annotated[list[str] | None, typer.Option("--tenant", help="Slug, name or id; may be repeated.")]
Providers = Annotated[list[str] | None, typer.Option("--provider", help="meta, google_ads ...; may be repeated.")]
Keys = Annotated[list[str] | None, typer.Option("--connection", help="Partition key, name or id; may be repeated.")]


def sync(
    tenant: Tenants = None,
    provider: Providers = None,
    connection: Keys = None,
    everybody: Annotated[bool, typer.Option("--all", help="Every connection that can be synced.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show which connections that would be.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Return as soon as Dagster has the run.")] = False,
    here: Annotated[bool, typer.Option("--here", help="Run in this process even if the UI answers.")] = False,
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
    partitions = [each.partition_key for each in selection.chosen]
    if not as_json:
        for each in selection.skipped:
            process.say(f"left out: {each.partition_key} is {each.standing}")
    if dry_run or not partitions:
        rows = [_planned(each) for each in selection.chosen]
        process.print_rows(rows, as_json=as_json, title="Would sync", empty="none of them can be synced")
        raise typer.Exit(0 if partitions else EXIT_NOT_WELL)
    _Sync(settings, store, partitions, as_json=as_json).run(detach=detach, here=here)


class _Sync:
    """One run of the job, launched or run, followed and told."""

    def __init__(self, settings: Any, store: Any, partitions: Sequence[str], *, as_json: bool) -> None:
        from adinsights_orchestration.cli.runs import Ui

        self.settings, self.store, self.partitions, self.as_json = settings, store, partitions, as_json
        self.ui = Ui(settings.dagster.ui_url)

    def run(self, *, detach: bool, here: bool) -> None:
        from adinsights_orchestration.cli import runs

        config = {"partitions": list(self.partitions), "requested_by": runs.requester()}
        run_config, tags = {"ops": {runs.SYNC_OP: {"config": config}}}, runs.run_tags()
        where = None if here else self.ui.location_of(runs.SYNC_JOB)
        if where is None and detach:
            raise runs.RunError(
                f"the UI at {self.ui.url} does not answer, and only it can run something detached.",
                next_step="Start it, or leave --detach out.",
            )
        if where is None:
            self._say(f"Syncing {len(self.partitions)} connections in this process.")
            self._run_here(run_config, tags)
            return
        run_id = self.ui.launch(where, runs.SYNC_JOB, run_config, tags)
        self._say(f"Syncing {len(self.partitions)} connections: {self.ui.run_url(run_id)}")
        if detach:
            self._tell_detached(run_id)
        else:
            self._follow(run_id)

    def _run_here(self, run_config: dict[str, Any], tags: dict[str, str]) -> None:
        from adinsights_orchestration.cli.runs import SYNC_JOB, new_run_id, run_here
        from adinsights_orchestration.cli.watch import Shown, SyncWatch

        run_id = new_run_id()
        watch = SyncWatch(self.store, run_id, self.partitions)
        quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
        with Shown(watch.look, as_json=self.as_json):
            failures = run_here(self.settings, SYNC_JOB, {**run_config, **quiet}, tags, run_id)
        watch.look()
        self._conclude(run_id, watch.fail(failures.by_partition), failures.reason)

    def _follow(self, run_id: str) -> None:
        from adinsights_orchestration.cli.runs import TERMINAL
        from adinsights_orchestration.cli.watch import POLL_SECONDS, Shown, SyncWatch

        watch = SyncWatch(self.store, run_id, self.partitions)
        try:
            with Shown(watch.look, as_json=self.as_json):
                while self.ui.status(run_id) not in TERMINAL:
                    time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            process.say(f"The run goes on: {self.ui.run_url(run_id)}")
            raise typer.Exit(EXIT_INTERRUPTED) from None
        watch.look()
        failures = self.ui.failures(run_id)
        self._conclude(run_id, watch.fail(failures.by_partition), failures.reason)

    def _conclude(self, run_id: str, rows: list[dict[str, Any]], reason: str) -> None:
        from adinsights_orchestration.cli.watch import row_style

        failed = [row for row in rows if row["state"] != "succeeded"]
        if self.as_json:
            process.print_json({"run_id": run_id, "connections": rows, "failed": [row["partition"] for row in failed]})
        else:
            process.console().print(process.table(rows, title="Synced", style=row_style))
            if failed:
                process.print_rows([_failure(row) for row in failed], as_json=False, title="Failed")
                self._say(reason if not any(row["reason"] for row in failed) else "")
        raise typer.Exit(EXIT_NOT_WELL if failed else 0)

    def _tell_detached(self, run_id: str) -> None:
        if self.as_json:
            process.print_json({"run_id": run_id, "url": self.ui.run_url(run_id), "partitions": self.partitions})

    def _say(self, text: str) -> None:
        if text and not self.as_json:
            process.say(text)


def _planned(each: Any) -> dict[str, Any]:
    return {"partition": each.partition_key, "provider": each.provider.value, "standing": each.standing.value}


def _failure(row: dict[str, Any]) -> dict[str, Any]:
    return {"partition": row["partition"], "state": row["state"], "job": row["job"], "reason": row["reason"] or "-"}
