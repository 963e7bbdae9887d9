"""Repairs in Dagster: full refresh, clear, and approval of a schema change, each a dry run unless told otherwise.

Belongs here: one job per repair and what its run shows. Does not belong here: planning and carrying out (`repair`). The
plan is always made and shown first; a run that only plans changes nothing and succeeds. A run that names the plan which
somebody read refuses every other one; a run that names none carries out the plan that it shows, and its digest is on
record as the run's tag.
"""

from collections.abc import Callable, Mapping

import dagster as dg
from pydantic import Field

from adinsights_orchestration.dagster_internals import events
from adinsights_orchestration.dead_runs import proof_of_life
from adinsights_orchestration.ingestion import specs
from adinsights_orchestration.ingestion.assets import AS_LONG_AS_AIRBYTE, MakeDeps, Told, asked_by, finish, tell_outcome
from adinsights_orchestration.ingestion.deps import Deps
from adinsights_orchestration.ingestion.repair import (
    HistoryPlan,
    Repair,
    SchemaPlan,
    approve_schema_change,
    carry_out_history,
    plan_history,
    plan_schema_change,
)
from adinsights_orchestration.plan_digest import PlanChangedError, command, require
from adinsights_orchestration.tenants.by_hand import refusal
from adinsights_orchestration.tenants.model import Connection
from adinsights_orchestration.unattended import Quietly, as_ever

REFRESH_JOB = "refresh_connection"
CLEAR_JOB = "clear_connection"
SCHEMA_JOB = "approve_schema_change"
# Dagster wants the names of ops and jobs apart.
REPAIR_OPS = {REFRESH_JOB: "refresh", CLEAR_JOB: "clear", SCHEMA_JOB: "approve_schema"}
PLAN_TAG = "adinsights/plan"
_COMMANDS = {REFRESH_JOB: "refresh", CLEAR_JOB: "clear", SCHEMA_JOB: "schema approve"}
_TAGS = {"adinsights/kind": "repair"}
_HISTORY_TAGS = {**_TAGS, "adinsights/repair": "history", **AS_LONG_AS_AIRBYTE}
_SET_OFF = "rule=~connection_(running_long|stale|no_recent_sync)|sync_empty"  # what fails is told as ever


class RepairConfig(dg.Config):
    """Which partition to repair, who asked, and whether to do it."""

    partition: str
    dry_run: bool = True
    plan_digest: str = Field(
        default="",
        description="The plan that you read, as a dry run names it: any other plan is refused and nothing is changed. "
        "Empty: without `dry_run` the run carries out what it plans itself.",
    )
    requested_by: str = ""


def build_repair_jobs(make_deps: MakeDeps, quietly: Quietly = as_ever) -> list[dg.JobDefinition]:
    """Builds the three repair jobs.

    Args:
        make_deps: What each run works with.
        quietly: Keeps quiet what a repair sets off: a history takes longer than any sync before, meanwhile nothing else
            of the connection is synced, and a clear brings no rows.
    """
    return [
        _history_job(
            REFRESH_JOB,
            Repair.REFRESH,
            "Reads a connection's whole history again. A dry run unless `dry_run` is false.",
            make_deps,
            quietly,
        ),
        _history_job(
            CLEAR_JOB,
            Repair.CLEAR,
            "Deletes a connection's rows from the warehouse, and only that connection's. A dry run unless `dry_run` is "
            "false.",
            make_deps,
            quietly,
        ),
        _schema_job(make_deps),
    ]


def _history_job(name: str, repair: Repair, text: str, make_deps: MakeDeps, quietly: Quietly) -> dg.JobDefinition:
    @dg.op(name=REPAIR_OPS[name], description=text, out=dg.Out(dg.Nothing, is_required=False))
    def history(context: dg.OpExecutionContext, config: RepairConfig) -> Told:
        deps = make_deps()
        with proof_of_life(context, deps.store):
            connection = find(deps, config.partition)
            plan = plan_history(deps, [connection], repair)
            _present(context, name, plan, config.partition, config)
            obstacles = {step.connection.partition_key: step.obstacle for step in plan.steps if step.obstacle}
            if config.dry_run or obstacles:
                finish(obstacles, 1)
                return
            if repair is Repair.REFRESH:
                events.plan_partitions(context, specs.asset_key(connection.provider), [connection.partition_key])
            asked, failed = asked_by(context, config.requested_by), {}
            # Nothing is done before the first outcome is asked for: the window has to be around the loop.
            with quietly(_SET_OFF, f"resource={config.partition}", author=asked, reason=f"{name} {config.partition}"):
                for outcome in carry_out_history(
                    deps,
                    plan,
                    run_id=context.run.run_id,
                    requested_by=asked,
                    progress=lambda progress: context.log.info(progress.describe()),
                ):
                    yield from tell_outcome(context, deps, outcome)
                    if not outcome.succeeded:
                        failed[outcome.partition_key] = outcome.reason
            finish(failed, 1)

    return _job(name, text, history, _HISTORY_TAGS)


def _schema_job(make_deps: MakeDeps) -> dg.JobDefinition:
    text = (
        "Shows how a connection's schema changed at its source; with `dry_run` false applies that and switches the "
        "connection on again."
    )

    @dg.op(name=REPAIR_OPS[SCHEMA_JOB], description=text, out=dg.Out(dg.Nothing, is_required=False))
    def schema(context: dg.OpExecutionContext, config: RepairConfig) -> None:
        deps = make_deps()
        with proof_of_life(context, deps.store):
            plan = plan_schema_change(deps, find(deps, config.partition))
            _present(context, SCHEMA_JOB, plan, config.partition, config)
            if not config.dry_run and plan.needed:
                requested_by = asked_by(context, config.requested_by)
                after = approve_schema_change(deps, plan, run_id=context.run.run_id, requested_by=requested_by)
                _show(context, after.describe())

    return _job(SCHEMA_JOB, text, schema, _TAGS)


def _job(name: str, text: str, op: Callable[[], object], tags: Mapping[str, str]) -> dg.JobDefinition:
    @dg.job(name=name, description=text, tags=tags, executor_def=dg.in_process_executor)
    def repair() -> None:
        op()

    return repair


def find(deps: Deps, partition: str) -> Connection:
    """Returns the partition's connection.

    Raises:
        Failure: No connection has this partition, or it is one that nobody repairs.
    """
    connection = deps.registry.by_partition().get(partition)
    reason = refusal(connection)
    if reason is not None or connection is None:
        raise dg.Failure(f"{partition}: {reason}", allow_retries=False)
    return connection


def _present(
    context: dg.OpExecutionContext, job: str, plan: HistoryPlan | SchemaPlan, partition: str, config: RepairConfig
) -> None:
    """Shows the plan and how to carry it out, puts its digest on record, and refuses it if it is not the one asked for.

    Raises:
        Failure: The configuration names another plan.
    """
    _show(context, plan.describe())
    context.log.info("plan %s", plan.digest)
    context.instance.add_run_tags(context.run.run_id, {PLAN_TAG: plan.digest})
    try:
        require(plan.digest, config.plan_digest, place=partition)
    except PlanChangedError as error:
        failed = dg.MetadataValue.json({partition: str(error)})
        raise dg.Failure(str(error), metadata={"failed": failed}, allow_retries=False) from error
    if config.dry_run and plan.executable:
        again = command(_COMMANDS[job], partition, plan.digest)
        context.log.info("to carry out exactly this: dry_run false and plan_digest %s, or `%s`", plan.digest, again)


def _show(context: dg.OpExecutionContext, plan: str) -> None:
    for line in plan.splitlines():
        context.log.info(line)
