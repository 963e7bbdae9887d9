"""The archive's own life in Dagster: assets `audit_log/expiry` and `audit_log/compaction`, their jobs and schedules.

Belongs here: runs, metadata and a check. Does not belong here: what leaves and how (`expiry`, `compaction`). Started by
hand both only tell, unless `dry_run` is false. Metadata holds counts and dates, never what a row says.
"""

# No postponed annotations: Dagster reads the type of an asset's context.
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from adinsights_orchestration.audit_log.archive.showing import KEY as ARCHIVE
from adinsights_orchestration.audit_log.dry_runs import outcome
from adinsights_orchestration.audit_log.journal import actor_of
from adinsights_orchestration.audit_log.leaving import showing
from adinsights_orchestration.audit_log.leaving.showing import COMPACTION, EXPIRY
from adinsights_orchestration.audit_log.source import AUDIT_LOG
from adinsights_orchestration.clock import Clock, utc_now
from adinsights_orchestration.dead_runs import proof_of_life
from adinsights_orchestration.environments import Automation
from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.owners import PLATFORM_ENG
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.unattended import declared, queue_tags, schedule_status

if TYPE_CHECKING:
    from adinsights_orchestration.audit_log.bookkeeping.removal_ledger import Pending
    from adinsights_orchestration.audit_log.leaving.removing import Archive

LET_GO = "what_left_is_gone"
_RUNBOOK = "what-leaves-the-audit-logs-archive"
_SHOWN = 20


class LifeConfig(dg.Config):
    """Whether to do it; by hand nothing is done unless it is said."""

    dry_run: bool = Field(default=True, description="Only tell what would be done; false does it.")


def build_archive_life(settings: Settings, store: OpsStore, *, clock: Clock = utc_now) -> dg.Definitions:
    """Builds both assets, their jobs, and the schedules where the environment declares them.

    Args:
        settings: Addresses, and how the archive is written.
        store: The ops store.
        clock: The present moment.
    """
    expiry, compaction = _expiry(settings, store, clock), _compaction(settings, store, clock)
    jobs = [
        _job(settings, expiry, Automation.EXPIRY, "Takes out of the archive what contracts keep no longer."),
        _job(settings, compaction, Automation.COMPACTION, "Makes a month's small objects of a tenant one."),
    ]
    schedules = [
        *_schedules(settings, jobs[0], Automation.EXPIRY, "audit_log__expiry", "Every night, after retention."),
        *_schedules(settings, jobs[1], Automation.COMPACTION, "audit_log__compaction", "Monthly, once it is settled."),
    ]
    return dg.Definitions(assets=[expiry, compaction], jobs=jobs, schedules=schedules)


def _expiry(settings: Settings, store: OpsStore, clock: Clock) -> dg.AssetsDefinition:
    @dg.asset(
        key=EXPIRY,
        output_required=False,  # a dry run is observed, and makes nothing
        deps=[ARCHIVE],
        group_name="audit_log",
        owners=[PLATFORM_ENG],
        kinds={"parquet"},
        metadata={"runbook": dg.MetadataValue.url(f"{settings.runbook_url}#{_RUNBOOK}")},
        check_specs=[
            dg.AssetCheckSpec(
                LET_GO,
                asset=EXPIRY,
                description="The store holds no object of which the chain says that it is gone; a warning where its own"
                " lock keeps some for now.",
            )
        ],
        description="What has left the archive because a contract keeps it no longer (`archive_retention_days` in"
        " `tenants.yaml`), under tombstones that keep the chain provable.\n\n**When it is late:** rows are kept for"
        " longer than the contracts say, and objects that were erased may still be there.",
    )
    def expiry(
        context: dg.AssetExecutionContext, config: LifeConfig
    ) -> Iterator[dg.MaterializeResult[None] | dg.AssetObservation | dg.AssetCheckResult]:
        from adinsights_orchestration.audit_log.bookkeeping import removal_ledger
        from adinsights_orchestration.audit_log.leaving.expiry import expire  # loads Arrow and DuckDB

        archive = _archive(settings, store, clock, context)
        with proof_of_life(context.op_execution_context, store):
            report = _told(lambda: expire(archive, apply=not config.dry_run))
        pending = removal_ledger.pending(store, AUDIT_LOG.name)
        yield outcome(EXPIRY, showing.of_expiry(report), dry_run=config.dry_run)
        yield _let_go(pending)

    return expiry


def _compaction(settings: Settings, store: OpsStore, clock: Clock) -> dg.AssetsDefinition:
    @dg.asset(
        key=COMPACTION,
        output_required=False,
        deps=[ARCHIVE],
        group_name="audit_log",
        owners=[PLATFORM_ENG],
        kinds={"parquet"},
        metadata={"runbook": dg.MetadataValue.url(f"{settings.runbook_url}#{_RUNBOOK}")},
        description="Months of the archive whose small objects have become one for each tenant.\n\n**When it is late:**"
        " the archive takes more room than it needs, and proving or restoring a year takes more requests.",
    )
    def compaction(
        context: dg.AssetExecutionContext, config: LifeConfig
    ) -> Iterator[dg.MaterializeResult[None] | dg.AssetObservation]:
        from adinsights_orchestration.audit_log.leaving.compaction import compact

        archive = _archive(settings, store, clock, context)
        with proof_of_life(context.op_execution_context, store):
            report = _told(lambda: compact(archive, apply=not config.dry_run))
        yield outcome(COMPACTION, showing.of_compaction(report), dry_run=config.dry_run)

    return compaction


def _told(work: Any) -> Any:
    try:
        return work()
    except AdinsightsError as error:
        raise dg.Failure(str(error), allow_retries=False) from None


def _archive(settings: Settings, store: OpsStore, clock: Clock, context: dg.AssetExecutionContext) -> "Archive":
    from adinsights_orchestration.audit_log.leaving.removing import Archive

    return Archive(settings, store, AUDIT_LOG, actor_of(context.run.tags), clock=clock, run_id=context.run.run_id)


def _let_go(pending: "Sequence[Pending]") -> dg.AssetCheckResult:
    kept = [each for each in pending if each.refusal is not None]
    severity = dg.AssetCheckSeverity.WARN if len(kept) == len(pending) else dg.AssetCheckSeverity.ERROR
    said = f"{len(pending)} objects are still there, {len(kept)} of them because the store keeps them for now"
    return dg.AssetCheckResult(
        asset_key=EXPIRY,
        check_name=LET_GO,
        passed=not pending,
        severity=severity,
        description=said if pending else "nothing that left is still there",
        metadata={
            "still there": len(pending),
            "kept by the store": len(kept),
            "bytes": sum(each.size for each in pending),
            "what it says": kept[0].refusal or "" if kept else "nothing",
            "keys": dg.MetadataValue.json([each.key for each in pending[:_SHOWN]]),
        },
    )


def _job(settings: Settings, asset: dg.AssetsDefinition, automation: Automation, what: str) -> Any:
    return dg.define_asset_job(
        automation.value,
        selection=dg.AssetSelection.assets(asset),
        description=f"{what} Started by hand it only tells, unless `dry_run` is false.",
        tags={"adinsights/kind": "audit_log", **queue_tags(settings, automation)},
        executor_def=dg.in_process_executor,
    )


def _schedules(
    settings: Settings, job: Any, automation: Automation, op: str, description: str
) -> list[dg.ScheduleDefinition]:
    unattended = declared(settings, automation)
    if unattended is None:
        return []
    return [
        dg.ScheduleDefinition(
            name=automation.schedule,
            job=job,
            cron_schedule=unattended.cron,
            execution_timezone=settings.home_timezone,
            default_status=schedule_status(settings, unattended),
            run_config={"ops": {op: {"config": {"dry_run": False}}}},
            description=description,
        )
    ]
