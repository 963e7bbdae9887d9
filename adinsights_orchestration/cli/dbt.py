"""`adinsights dbt`: prepare the project, or build its models as the runbook's `run-dbt` does.

Belongs here: from options to a run of the job `dbt_build`, and its outcome. Does not belong here: building
(`transformation`). The run is recorded on the configured Dagster instance, so that the UI shows it as any other.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated, Any

import sqlalchemy as sa
import typer

from adinsights_orchestration.cli import process
from adinsights_orchestration.cli.entry import EXIT_NOT_WELL

if TYPE_CHECKING:
    from adinsights_orchestration.ops_store.store import OpsStore

app = typer.Typer(help="Prepare the dbt project, or build its models.", no_args_is_help=True, rich_markup_mode=None)
_HEALTHY = ("success", "skipped", "pass", "no-op")


@app.command()
def prepare() -> None:
    """Parse the project into the manifest that the pipelines location loads. Needs no database."""
    from adinsights_orchestration.transformation import manifest

    settings = process.settings()
    reason = manifest.staleness(settings)
    if reason is not None:
        process.say(f"{reason}; parsing the project")
    path = manifest.prepare(settings)
    process.say(f"{path} is current")


@app.command()
def build(
    select: Annotated[str, typer.Option("--select", "-s", help="What to build, as for dbt; empty: everything.")] = "",
    exclude: Annotated[str, typer.Option("--exclude", help="What to leave out, as for dbt.")] = "",
    full_refresh: Annotated[
        bool, typer.Option("--full-refresh", help="Rebuild incremental models from the raw tables.")
    ] = False,
    drop_rows_of: Annotated[
        list[str] | None,
        typer.Option(metavar="PROVIDER", help="Left out, and its rows may go with a full refresh; can be repeated."),
    ] = None,
    as_json: process.JsonOption = False,
) -> None:
    """Build and test the models, publish the run results. Exit code 1 when something failed."""
    from adinsights_orchestration.cli import runs

    settings = process.settings()
    store = process.open_ops_store(settings)
    run_id = runs.new_run_id()
    config = {"select": select, "exclude": exclude, "full_refresh": full_refresh, "drop_rows_of": drop_rows_of or []}
    run_config: dict[str, Any] = {"ops": {runs.DBT_OP: {"config": config}}}
    logging.getLogger("dbt").setLevel(logging.WARNING if as_json else logging.INFO)  # the progress of a build
    failures = runs.run_here(settings, runs.DBT_JOB, run_config, runs.run_tags(), run_id, store=store)
    invocations, failed = _invocations(store, run_id), _failed_nodes(store, run_id)
    if as_json:
        document = {"run_id": run_id, "invocations": invocations, "failed": failed, "reason": failures.reason}
        process.print_json(document)
    else:
        process.print_rows(invocations, as_json=False, title="Built", empty="dbt was not reached")
        if failed:
            process.print_rows(failed, as_json=False, title="Failed")
        if failures.reason:
            process.say(failures.reason, style="red")
    raise typer.Exit(EXIT_NOT_WELL if failures.reason else 0)


def _invocations(store: OpsStore, run_id: str) -> list[dict[str, Any]]:
    from adinsights_orchestration.ops_store.tables import dbt_invocation as row

    columns = (row.c.command, row.c.models, row.c.completed, row.c.succeeded, row.c.elapsed_seconds)
    query = sa.select(*columns).where(row.c.run_id == run_id).order_by(row.c.started_at)
    with store.begin() as connection:
        found = connection.execute(query).mappings().all()
    return [{**row, "elapsed_seconds": round(row["elapsed_seconds"], 1)} for row in found]


def _failed_nodes(store: OpsStore, run_id: str) -> list[dict[str, Any]]:
    from adinsights_orchestration.ops_store.tables import dbt_invocation, dbt_model_result

    mine = sa.select(dbt_invocation.c.invocation_id).where(dbt_invocation.c.run_id == run_id)
    columns = (dbt_model_result.c.unique_id, dbt_model_result.c.status, dbt_model_result.c.message)
    query = (
        sa.select(*columns)
        .where(dbt_model_result.c.invocation_id.in_(mine), dbt_model_result.c.status.not_in(_HEALTHY))
        .order_by(dbt_model_result.c.unique_id)
    )
    with store.begin() as connection:
        return [dict(found) for found in connection.execute(query).mappings()]
