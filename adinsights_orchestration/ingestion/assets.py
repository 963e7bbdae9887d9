"""A person's sync in Dagster: the provider assets, and one job for any set of connections.

Belongs here: from a run's partitions or configuration to the engine, and from its outcomes to events. Does not belong
here: starting and following syncs (`wait`). A run fails when one of its connections failed; Dagster then shows exactly
the partitions that were planned in it and not materialized as failed, and the others keep what they got. A run proves
that it lives as long as it follows syncs: whoever observes takes over from one that is dead, and from no other.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import dagster as dg
from pydantic import Field

from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.dagster_internals import events
from adinsights_orchestration.dagster_internals.events import CheckResult
from adinsights_orchestration.dead_runs import proof_of_life
from adinsights_orchestration.ingestion import ledger, specs
from adinsights_orchestration.ingestion.airbyte_models import DATA_TYPES
from adinsights_orchestration.ingestion.deps import Deps
from adinsights_orchestration.ingestion.ledger import JobRow
from adinsights_orchestration.ingestion.outcomes import SyncOutcome
from adinsights_orchestration.ingestion.reporting import SyncChecks, log_sync
from adinsights_orchestration.ingestion.wait import sync_and_wait
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.tenants.by_hand import refusal
from adinsights_orchestration.tenants.model import Connection, Provider

SYNC_JOB = "sync_connections"
SYNC_OP = "sync"
# Airbyte decides how long syncs take; the instance's limit is for runs that hang.
AS_LONG_AS_AIRBYTE = {"dagster/max_runtime": str(24 * 60 * 60)}
SYNC_TAGS = {"adinsights/kind": "sync", "adinsights/sync": "job", **AS_LONG_AS_AIRBYTE}
MakeDeps = Callable[[], Deps]
Told = Iterator[dg.AssetMaterialization | dg.AssetCheckEvaluation]
_UI = "dagster-ui"


class SyncConfig(dg.Config):
    """Which partitions, where the run itself does not say it, and who asked for the audit log."""

    partitions: list[str] = Field(default_factory=list)
    requested_by: str = ""


def build_provider_assets(settings: Settings, make_deps: MakeDeps) -> list[dg.AssetsDefinition]:
    """Builds `airbyte/<provider>` for every provider; materializing a partition syncs its connection."""
    return [_provider_asset(provider, make_deps, specs.provider_spec(provider, settings)) for provider in Provider]


def _provider_asset(provider: Provider, make_deps: MakeDeps, spec: dg.AssetSpec) -> dg.AssetsDefinition:
    @dg.multi_asset(
        name=f"sync_{provider.value}",
        specs=[spec],
        check_specs=[specs.sync_check_spec(provider)],
        # A check that is planned in every run and reported in few must be optional.
        can_subset=True,
        backfill_policy=dg.BackfillPolicy.single_run(),
        pool=SYNC_OP,
    )
    def sync(context: dg.AssetExecutionContext, config: SyncConfig) -> Told:
        keys = config.partitions or list(context.partition_keys)
        if config.partitions:
            events.plan_partitions(context, spec.key, keys)
        yield from run_syncs(context, make_deps(), keys, config)

    return sync


def build_sync_job(make_deps: MakeDeps) -> dg.JobDefinition:
    """Builds the job that syncs any set of connections, of any providers, in one run.

    It is a job of ops because Dagster's asset jobs do not mix assets of different partitions.
    """

    @dg.op(name=SYNC_OP, pool=SYNC_OP, out=dg.Out(dg.Nothing, is_required=False), description=sync_job_text())
    def sync(context: dg.OpExecutionContext, config: SyncConfig) -> Told:
        deps = make_deps()
        known = deps.registry.by_partition()
        for key in config.partitions:
            if key in known:
                events.plan_partitions(context, specs.asset_key(known[key].provider), [key])
        yield from run_syncs(context, deps, config.partitions, config)

    @dg.job(name=SYNC_JOB, description=sync_job_text(), tags=SYNC_TAGS, executor_def=dg.in_process_executor)
    def sync_connections() -> None:
        sync()

    return sync_connections


def sync_job_text() -> str:
    """What the job and its op say of themselves."""
    return (
        "Syncs the connections whose partition keys are in the configuration, follows them to the end, and fails "
        "exactly those that failed. Stopping the run does not cancel a sync."
    )


def run_syncs(
    context: dg.OpExecutionContext | dg.AssetExecutionContext, deps: Deps, keys: Sequence[str], config: SyncConfig
) -> Told:
    """Syncs the partitions, yields what to tell Dagster of each as it ends, and fails in the end if one failed.

    Raises:
        Failure: Some partitions failed; its metadata names each with Airbyte's own reason.
    """
    with proof_of_life(op_context(context), deps.store):
        chosen, failed = choose(deps, keys)
        for key, reason in failed.items():
            context.log.error("%s: %s", key, reason)
        outcomes = sync_and_wait(
            deps,
            chosen,
            run_id=context.run.run_id,
            requested_by=asked_by(context, config.requested_by),
            progress=lambda progress: context.log.info(progress.describe()),
        )
        for outcome in outcomes:
            yield from tell_outcome(context, deps, outcome)
            if not outcome.succeeded:
                failed[outcome.partition_key] = outcome.reason
                context.log.error("%s: %s", outcome.partition_key, outcome.reason)
        finish(failed, len(keys))


def op_context(context: dg.OpExecutionContext | dg.AssetExecutionContext) -> dg.OpExecutionContext:
    """The op behind an asset, or the op itself."""
    return context.op_execution_context if isinstance(context, dg.AssetExecutionContext) else context


def asked_by(context: dg.OpExecutionContext | dg.AssetExecutionContext, requested_by: str) -> str:
    """Who to name in the audit log."""
    return requested_by or context.run.tags.get("user") or _UI


def finish(failed: Mapping[str, str], of: int) -> None:
    """Fails the run if a connection failed.

    Raises:
        Failure: Some connections failed; the metadata names each with Airbyte's own reason.
    """
    if failed:
        raise dg.Failure(
            f"{len(failed)} of {of} connections failed: {shortened(failed)}",
            metadata={"failed": dg.MetadataValue.json(dict(failed))},
            allow_retries=False,
        )


def choose(deps: Deps, keys: Sequence[str]) -> tuple[list[Connection], dict[str, str]]:
    """Splits partition keys into connections that can be synced and reasons why the others cannot."""
    known = deps.registry.by_partition()
    chosen: list[Connection] = []
    refused: dict[str, str] = {}
    for key in dict.fromkeys(keys):
        connection = known.get(key)
        reason = refusal(connection)
        if reason is not None:
            refused[key] = reason
        elif connection is not None:
            chosen.append(connection)
    return chosen, refused


def tell_outcome(context: dg.OpExecutionContext | dg.AssetExecutionContext, deps: Deps, outcome: SyncOutcome) -> Told:
    """Yields an outcome's materialization and check, and then notes in the ledger that Dagster knows of it.

    The check speaks of the partition's newest sync that is over, which need not be this run's: one that ended later
    may have been reported already, and a start that was refused or a wait that was broken off ended no sync.
    """
    key, job = specs.asset_key(outcome.connection.provider), outcome.job
    if job is not None and job.job_type not in DATA_TYPES:
        context.log.info("%s: %s", outcome.partition_key, specs.describe(job))
        return  # a clear brings no data and says nothing about the last sync
    if job is not None and outcome.owned and outcome.succeeded:
        metadata = specs.sync_metadata(job, outcome.connection, deps.settings)
        yield dg.AssetMaterialization(key, partition=outcome.partition_key, metadata=metadata)
    checks = SyncChecks(context.instance, deps.store, deps.settings, deps.registry)
    newest = checks.newest([outcome.partition_key]).get(outcome.partition_key)
    latest = events.latest_materializations(context.instance, key, [outcome.partition_key])
    result = _result(deps, outcome, newest)
    yield events.check_evaluation(key, specs.SYNC_CHECK, result, latest.get(outcome.partition_key))
    said = {outcome.partition_key: newest.job_id if newest is not None else 0}
    checks.correct(outcome.connection.provider, said, utc_now())
    if job is not None and outcome.owned:
        with deps.store.begin() as connection:
            ledger.mark_reported(connection, [job.job_id], context.run.run_id, utc_now())
        log_sync(job)


def _result(deps: Deps, outcome: SyncOutcome, newest: JobRow | None) -> CheckResult:
    if newest is None:
        return CheckResult(outcome.partition_key, passed=False, description=outcome.reason)
    return specs.check_result(newest, outcome.connection, deps.settings)


def shortened(failed: Mapping[str, str], most: int = 5) -> str:
    """The first few failures in words; the whole list is in the failure's metadata."""
    first = "; ".join(f"{key}: {reason}" for key, reason in list(failed.items())[:most])
    return first + (f"; and {len(failed) - most} more" if len(failed) > most else "")
