"""`adinsights refresh`, `clear` and `schema`: what on-call does besides syncing, dry run first.

Belongs here: showing the plan, and with `--yes` running the job that carries it out. Does not belong here: planning and
carrying out (`ingestion.repair`). The job is always given the digest of the plan that was shown here, so that it does
that or nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adinsights_orchestration.cli import process
from adinsights_orchestration.cli.entry import EXIT_NOT_WELL
from adinsights_orchestration.cli.sync import HereOption

if TYPE_CHECKING:
    from adinsights_orchestration.cli.following import Conclusion
    from adinsights_orchestration.ingestion.deps import Deps
    from adinsights_orchestration.ingestion.repair import HistoryPlan, SchemaPlan
    from adinsights_orchestration.tenants.model import Connection

Partition = Annotated[str, typer.Argument(help="Partition key, name or id of the connection.")]
PlanOption = Annotated[
    str, typer.Option("--plan", metavar="DIGEST", help="The plan that you read: anything else is refused.")
]
schema_app = typer.Typer(
    help="Show or approve a connection's schema change.", no_args_is_help=True, rich_markup_mode=None
)


def refresh(
    partition: Partition,
    yes: process.YesOption = False,
    plan: PlanOption = "",
    here: HereOption = False,
    as_json: process.JsonOption = False,
) -> None:
    """Sync a connection's whole history again. Shows the plan; does it with --yes."""
    _history("refresh", partition, _Asked("refresh", yes, plan, here, as_json))


def clear(
    partition: Partition,
    yes: process.YesOption = False,
    plan: PlanOption = "",
    here: HereOption = False,
    as_json: process.JsonOption = False,
) -> None:
    """Delete a connection's rows in the warehouse. Shows the plan; does it with --yes."""
    _history("clear", partition, _Asked("clear", yes, plan, here, as_json))


@schema_app.command("show")
def show_schema(partition: Partition, as_json: process.JsonOption = False) -> None:
    """Show what changed at the source, and what approving it would do."""
    deps, connection = _target(partition)
    plan = _schema_plan(deps, connection)
    _print_schema(plan, as_json=as_json)
    raise typer.Exit(EXIT_NOT_WELL if plan.obstacle else 0)


@schema_app.command("approve")
def approve_schema(
    partition: Partition,
    yes: process.YesOption = False,
    plan: PlanOption = "",
    here: HereOption = False,
    as_json: process.JsonOption = False,
) -> None:
    """Apply the schema change and switch the connection on. Shows the plan; does it with --yes."""
    from adinsights_orchestration.cli.runs import SCHEMA_JOB, RunError

    asked = _Asked("schema approve", yes, plan, here, as_json)
    deps, connection = _target(partition)
    planned = _schema_plan(deps, connection)
    if asked.shown_first(planned, connection):
        conclusion = _start(deps, SCHEMA_JOB, connection, planned, asked, watched=False)
        _print_schema(_schema_plan(deps, connection), as_json=as_json)
        if conclusion.reason:
            raise RunError(conclusion.reason)
        return
    _print_schema(planned, as_json=as_json, command=asked.command(planned, connection))
    raise typer.Exit(EXIT_NOT_WELL if planned.obstacle else 0)


def _history(what: str, partition: str, asked: _Asked) -> None:
    from adinsights_orchestration.cli import following
    from adinsights_orchestration.cli.runs import HISTORY_JOBS
    from adinsights_orchestration.ingestion.repair import Repair, plan_history

    deps, connection = _target(partition)
    plan = plan_history(deps, [connection], Repair(what))
    obstacles = [step.obstacle for step in plan.steps if step.obstacle]
    if asked.shown_first(plan, connection):
        conclusion = _start(deps, HISTORY_JOBS[what], connection, plan, asked, watched=True)
        following.conclude(conclusion, title=HISTORY_JOBS[what], as_json=asked.as_json)
    command = asked.command(plan, connection)
    if asked.as_json:
        steps = [{"partition": connection.partition_key, "does": s.does, "warnings": s.warnings} for s in plan.steps]
        document = {"executed": False, "steps": steps, "obstacles": obstacles}
        process.print_json({**document, "plan": plan.digest, "command": command})
    else:
        process.console().print(plan.describe(), markup=False)
        _hint(plan, command)
    raise typer.Exit(EXIT_NOT_WELL if obstacles else 0)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What somebody typed: the command's words, whether to do it, which plan they mean, where it runs."""

    words: str
    yes: bool
    plan: str
    here: bool
    as_json: bool

    def shown_first(self, plan: HistoryPlan | SchemaPlan, connection: Connection) -> bool:
        """Whether to carry the plan out; if so, it has been shown. A plan other than the one meant is refused."""
        from adinsights_orchestration.plan_digest import PlanChangedError, require

        try:
            require(plan.digest, self.plan, place=connection.partition_key)
        except PlanChangedError:
            process.say(plan.describe())
            raise
        if not (self.yes and plan.executable):
            return False
        process.say(plan.describe())
        process.say(f"plan {plan.digest}")
        return True

    def command(self, plan: HistoryPlan | SchemaPlan, connection: Connection) -> str:
        """What carries out exactly this plan; empty where nothing can be."""
        from adinsights_orchestration.plan_digest import command

        options = ["--here"] if self.here else []
        return command(self.words, connection.partition_key, plan.digest, *options) if plan.executable else ""


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


def _print_schema(plan: SchemaPlan, *, as_json: bool, command: str = "") -> None:
    if not as_json:
        process.console().print(plan.describe(), markup=False)
        _hint(plan, command)
        return
    changes = plan.diff.describe().splitlines() if not plan.diff.empty else []
    document: dict[str, Any] = {"partition": plan.connection.partition_key, "status": plan.status, "changes": changes}
    document |= {"breaking": plan.diff.breaking, "needed": plan.needed, "obstacle": plan.obstacle}
    process.print_json({**document, "plan": plan.digest, "command": command})


def _hint(plan: HistoryPlan | SchemaPlan, command: str) -> None:
    if command:
        out = process.console()
        out.print(f"Nothing was changed. Exactly this plan ({plan.digest}) is carried out by:", markup=False)
        out.print(command, markup=False, soft_wrap=True)  # one line, however narrow the terminal: it is to be copied


def _start(
    deps: Deps, job: str, connection: Connection, plan: HistoryPlan | SchemaPlan, asked: _Asked, *, watched: bool
) -> Conclusion:
    """Runs the job that carries out the plan that was shown."""
    from adinsights_orchestration.cli import following, runs

    partitions = [connection.partition_key] if watched else []
    run = following.JobRun(deps.settings, deps.store, job, partitions, as_json=asked.as_json)
    config = {"partition": connection.partition_key, "dry_run": False, "plan_digest": plan.digest}
    return run.start(runs.REPAIR_OPS[job], {**config, "requested_by": runs.requester()}, here=asked.here)
