"""`adinsights refresh`, `clear` and `schema`: what on-call does besides syncing, dry run first.

Belongs here: showing the plan, and with `--yes` running the job that carries it out. Does not belong here: planning and
carrying out (`ingestion.repair`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from adinsights_orchestration.cli import process
from adinsights_orchestration.cli.entry import EXIT_NOT_WELL
from adinsights_orchestration.cli.sync import HereOption

if TYPE_CHECKING:
    from adinsights_orchestration.ingestion.deps import Deps
    from adinsights_orchestration.ingestion.repair import SchemaPlan
    from adinsights_orchestration.tenants.model import Connection

Partition = Annotated[str, typer.Argument(help="Partition key, name or id of the connection.")]
schema_app = typer.Typer(
    help="Show or approve a connection's schema change.", no_args_is_help=True, rich_markup_mode=None
)


def refresh(
    partition: Partition, yes: process.YesOption = False, here: HereOption = False, as_json: process.JsonOption = False
) -> None:
    """Sync a connection's whole history again. Shows the plan; does it with --yes."""
    _history("refresh", partition, yes=yes, here=here, as_json=as_json)


def clear(
    partition: Partition, yes: process.YesOption = False, here: HereOption = False, as_json: process.JsonOption = False
) -> None:
    """Delete a connection's rows in the warehouse. Shows the plan; does it with --yes."""
    _history("clear", partition, yes=yes, here=here, as_json=as_json)


@schema_app.command("show")
def show_schema(partition: Partition, as_json: process.JsonOption = False) -> None:
    """Show what changed at the source, and what approving it would do."""
    deps, connection = _target(partition)
    plan = _schema_plan(deps, connection)
    _print_schema(plan, as_json=as_json)
    raise typer.Exit(EXIT_NOT_WELL if plan.obstacle else 0)


@schema_app.command("approve")
def approve_schema(
    partition: Partition, yes: process.YesOption = False, here: HereOption = False, as_json: process.JsonOption = False
) -> None:
    """Apply the schema change and switch the connection on. Shows the plan; does it with --yes."""
    deps, connection = _target(partition)
    plan = _schema_plan(deps, connection)
    if not yes or plan.obstacle or not plan.needed:
        _print_schema(plan, as_json=as_json)
        _hint(wanted=plan.needed and not plan.obstacle, as_json=as_json)
        raise typer.Exit(EXIT_NOT_WELL if plan.obstacle else 0)
    from adinsights_orchestration.cli.runs import SCHEMA_JOB

    _run(deps, SCHEMA_JOB, connection, here=here, as_json=as_json, watched=False)


def _history(what: str, partition: str, *, yes: bool, here: bool, as_json: bool) -> None:
    from adinsights_orchestration.cli.runs import HISTORY_JOBS
    from adinsights_orchestration.ingestion.repair import Repair, plan_history

    deps, connection = _target(partition)
    plan = plan_history(deps, [connection], Repair(what))
    obstacles = [step.obstacle for step in plan.steps if step.obstacle]
    if yes and not obstacles:
        if not as_json:
            process.say(plan.describe())
        _run(deps, HISTORY_JOBS[what], connection, here=here, as_json=as_json, watched=True)
        return
    if as_json:
        steps = [{"partition": connection.partition_key, "does": s.does, "warnings": s.warnings} for s in plan.steps]
        process.print_json({"executed": False, "steps": steps, "obstacles": obstacles})
    else:
        process.console().print(plan.describe(), markup=False)
    _hint(wanted=not obstacles, as_json=as_json)
    raise typer.Exit(EXIT_NOT_WELL if obstacles else 0)


def _target(partition: str) -> tuple[Deps, Connection]:
    from adinsights_orchestration.cli.selection import one, served
    from adinsights_orchestration.ingestion.automation import deps_maker

    settings = process.settings()
    store = process.open_ops_store(settings)
    connection = one(served(store), partition)
    return deps_maker(settings, store)(), connection


def _schema_plan(deps: Deps, connection: Connection) -> SchemaPlan:
    from adinsights_orchestration.ingestion.repair import plan_schema_change

    return plan_schema_change(deps, connection)


def _print_schema(plan: SchemaPlan, *, as_json: bool) -> None:
    if not as_json:
        process.console().print(plan.describe(), markup=False)
        return
    changes = plan.diff.describe().splitlines() if not plan.diff.empty else []
    document: dict[str, Any] = {"partition": plan.connection.partition_key, "status": plan.status, "changes": changes}
    process.print_json({**document, "breaking": plan.diff.breaking, "needed": plan.needed, "obstacle": plan.obstacle})


def _hint(*, wanted: bool, as_json: bool) -> None:
    if wanted and not as_json:
        process.say("Nothing was changed. Add --yes to do it.")


def _run(deps: Deps, job: str, connection: Connection, *, here: bool, as_json: bool, watched: bool) -> None:
    from adinsights_orchestration.cli import following, runs

    partitions = [connection.partition_key] if watched else []
    run = following.JobRun(deps.settings, deps.store, job, partitions, as_json=as_json)
    config = {"partition": connection.partition_key, "dry_run": False, "requested_by": runs.requester()}
    conclusion = run.start(runs.REPAIR_OPS[job], config, here=here)
    if watched:
        following.conclude(conclusion, title=job, as_json=as_json)
    _print_schema(_schema_plan(deps, connection), as_json=as_json)
    if conclusion.reason:
        raise runs.RunError(conclusion.reason, place=connection.partition_key)
