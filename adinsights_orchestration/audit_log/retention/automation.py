"""Retention in Dagster: the asset `audit_log/retention`, its checks, its job and its schedule.

Belongs here: runs, metadata and a line about each. Does not belong here: deleting (`run`), counting (`census`).
Metadata holds counts and dates, never what a row says.
"""

# No postponed annotations: Dagster reads the type of an asset's context.
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from datetime import date
from functools import partial

import dagster as dg
from pydantic import Field

from adinsights_orchestration.audit_log import restored
from adinsights_orchestration.audit_log.alerts import set_off_by
from adinsights_orchestration.audit_log.days import ranges, span
from adinsights_orchestration.audit_log.dry_runs import outcome
from adinsights_orchestration.audit_log.journal import actor_of
from adinsights_orchestration.audit_log.retention import showing
from adinsights_orchestration.audit_log.retention.account import so_far
from adinsights_orchestration.audit_log.retention.again import Rearchive, Unproven, archived_anew
from adinsights_orchestration.audit_log.retention.census import Ages, Census
from adinsights_orchestration.audit_log.retention.checks import check_specs, judged
from adinsights_orchestration.audit_log.retention.looking import census_of, settled_census
from adinsights_orchestration.audit_log.retention.run import Retention, RetentionReport, archive_mode
from adinsights_orchestration.audit_log.retention.showing import KEY
from adinsights_orchestration.audit_log.source import AUDIT_LOG, Archive, Source
from adinsights_orchestration.audit_log.telling import telling
from adinsights_orchestration.audit_log.tenant_names import tenant_names
from adinsights_orchestration.clock import Clock, utc_now
from adinsights_orchestration.dead_runs import proof_of_life
from adinsights_orchestration.environments import Automation
from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.owners import PLATFORM_ENG
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.unattended import Quietly, as_ever, declared, queue_tags, schedule_status

_RUNBOOK = "the-audit-logs-retention"
_TOLD_EVERY_SECONDS = 10.0
_RANGES_A_NIGHT = 10  # of days with late rows: the archive scans the table once for each
_SET_OFF = set_off_by(KEY.to_user_string())


class RetentionConfig(dg.Config):
    """Whether to delete; by hand nothing is deleted unless it is said."""

    dry_run: bool = Field(default=True, description="Only tell what would be deleted; false deletes.")


def build_retention(
    settings: Settings,
    store: OpsStore,
    own: Sequence[Source] = (),
    *,
    rearchive: Rearchive | None = None,
    unproven: Unproven | None = None,
    clock: Clock = utc_now,
    quietly: Quietly = as_ever,
) -> dg.Definitions:
    """Builds the asset, its checks and job, and the schedule where the environment declares one.

    Args:
        settings: Addresses, limits, and whether rows may go unarchived.
        store: The ops store.
        own: Other tables that are declared, first of all the orchestrator's own history, in the same run: what is
            to be archived goes once that is proven, the rest by age.
        rearchive: Archives days anew that differ from the table.
        unproven: Asks the archive's store right before rows are deleted.
        clock: The present moment.
        quietly: Keeps quiet, while rows are deleted, that they are late to be.
    """
    asset = _asset(settings, store, own, rearchive, unproven, clock, quietly)
    job = dg.define_asset_job(
        Automation.RETENTION.value,
        selection=dg.AssetSelection.assets(KEY),
        description="Deletes audit rows that are past their window and proven archived, then looks for what should not"
        " be. Started by hand it only tells, unless `dry_run` is false.",
        tags={"adinsights/kind": "audit_log", **queue_tags(settings, Automation.RETENTION)},
        executor_def=dg.in_process_executor,
    )
    unattended = declared(settings, Automation.RETENTION)
    schedules = []
    if unattended is not None:
        schedules.append(
            dg.ScheduleDefinition(
                name=Automation.RETENTION.schedule,
                job=job,
                cron_schedule=unattended.cron,
                execution_timezone=settings.home_timezone,
                default_status=schedule_status(settings, unattended),
                run_config={"ops": {"audit_log__retention": {"config": {"dry_run": False}}}},
                description="Every night, after the archive.",
            )
        )
    return dg.Definitions(assets=[asset], jobs=[job], schedules=schedules)


def _asset(
    settings: Settings,
    store: OpsStore,
    own: Sequence[Source],
    rearchive: Rearchive | None,
    unproven: Unproven | None,
    clock: Clock,
    quietly: Quietly,
) -> dg.AssetsDefinition:
    watched = (AUDIT_LOG, *(each for each in own if each.archive is Archive.REQUIRED))

    @dg.multi_asset(
        name="audit_log__retention",
        description="Deletes what may go, then counts the rows of every tenant's day once, and holds them against"
        " windows and archive.",
        specs=[_spec(settings)],
        check_specs=[each for source in watched for each in check_specs(source)],
        can_subset=True,
    )
    def retention(
        context: dg.AssetExecutionContext, config: RetentionConfig
    ) -> Iterator[dg.MaterializeResult[None] | dg.AssetObservation | dg.AssetCheckResult]:
        with proof_of_life(context.op_execution_context, store):
            problems: list[str] = []
            go = not config.dry_run
            reports = dict[Source, RetentionReport]()
            progress = partial(so_far, store, (AUDIT_LOG, *own))
            if context.selected_asset_keys:  # whoever executes the checks alone asks for nothing to be deleted
                actor = actor_of(context.run.tags)
                quiet = quietly(*_SET_OFF, author=actor, reason="retention is at work") if go else nullcontext()
                with quiet, telling(context.log.info, progress, every_seconds=_TOLD_EVERY_SECONDS):
                    for each in (AUDIT_LOG, *own):
                        again, asks = (rearchive, unproven) if each.archive is Archive.REQUIRED else (None, None)
                        run = Retention(settings, store, each, clock, actor, again, go, asks)
                        reports |= _ran(context, run, problems)
                _account_for_restores(store, (AUDIT_LOG, *own) if go else (), clock, problems)
            name = tenant_names(store)
            asked = {key.name for key in context.selected_asset_check_keys}
            late: dict[Source, list[date]] = {}
            for each in watched:
                report = reports.get(each)
                for census, ages in _counted(settings, store, each, clock, problems, settle=bool(report and go)):
                    if report is not None and each is AUDIT_LOG:
                        metadata = showing.of_run(report, name) | showing.of_table(census, ages) | _history(reports)
                        yield outcome(KEY, metadata, dry_run=config.dry_run)
                    required = archive_mode(settings, each) is Archive.REQUIRED
                    begins = settings.audit_log.first_day if required else None
                    results = judged(each, census, ages, name, begins)
                    yield from (found for found in results if found.check_name in asked)
                    if report is not None and go and required:
                        again_too = to_archive_again(ages, clock().date())
                        late[each] = [day for day in again_too if day not in report.not_rearchived]
            # Last, so that a failure hides nothing; what is due among these rows goes with the next night's run.
            for each, days in late.items():
                problems += _archive_late(context, rearchive, each, days)
            if problems:
                raise _failure(problems)

    return retention


def _ran(context: dg.AssetExecutionContext, run: Retention, problems: list[str]) -> dict[Source, RetentionReport]:
    """One table's run. What fails is told in the end: it keeps no other table waiting, and no check."""
    try:
        report = run.run()
    except AdinsightsError as error:
        problems.append(str(error))
        return {}
    context.log.info(summary(report))
    if report.failure:
        problems.append(report.failure)
    return {run.source: report}


def _counted(
    settings: Settings, store: OpsStore, source: Source, clock: Clock, problems: list[str], *, settle: bool
) -> Iterator[tuple[Census, Ages]]:
    """One table's census; none where that fails, which is told in the end: it keeps no other table unchecked."""
    try:
        yield (settled_census if settle else census_of)(settings, store, source, clock)
    except AdinsightsError as error:
        problems.append(str(error))


def _account_for_restores(store: OpsStore, sources: Sequence[Source], clock: Clock, problems: list[str]) -> None:
    """Journals the audit rows of restores that were killed; what fails is told in the end."""
    for source in sources:
        try:
            restored.account_for_the_dead(store, source, clock())
        except AdinsightsError as error:
            problems.append(str(error))


def _history(reports: Mapping[Source, RetentionReport]) -> dict[str, dg.JsonMetadataValue]:
    """How many rows went of every other table."""
    rows = {source.name: report.rows for source, report in reports.items() if source is not AUDIT_LOG and report.rows}
    return {"own history": dg.MetadataValue.json(rows)}


def _archive_late(
    context: dg.AssetExecutionContext, rearchive: Rearchive | None, source: Source, late: Sequence[date]
) -> Iterator[str]:
    """Archives days again of which rows came late; returns what is to be told of those that could not be."""
    if not late or rearchive is None:
        return
    context.log.info("%s: %d days with rows that came late are archived again", source.name, len(late))
    if failed := archived_anew(rearchive, source, late):
        first, of = min(failed), "" if source is AUDIT_LOG else f" of {source.name}"
        yield f"{len(failed)} days{of} with rows that came late could not be archived again; {first}: {failed[first]}"


def _failure(problems: Sequence[str]) -> dg.Failure:
    return dg.Failure("\n".join(dict.fromkeys(problems)), allow_retries=False)


def _spec(settings: Settings) -> dg.AssetSpec:
    return dg.AssetSpec(
        KEY,
        skippable=True,  # a dry run is observed, and makes nothing
        group_name="audit_log",
        owners=[PLATFORM_ENG],
        kinds={"postgres"},
        description="Audit rows past their window, deleted: a year, or longer where a contract says so, and never while"
        f" a hold is on them.\n\n{_mode(settings)}\n\n**When it is late:** rows are kept for longer than the contracts"
        " say, and the table grows.",
        metadata={"runbook": dg.MetadataValue.url(f"{settings.runbook_url}#{_RUNBOOK}")},
    )


def to_archive_again(ages: Ages, today: date) -> list[date]:
    """Days with rows that came late, in few scans of the table: the oldest, or where there are more each in its turn.

    A later night has the rest. Were the oldest always first, those that cannot be archived would keep all others out.
    """
    found = ranges(sorted({day for _, day in ages.late}))
    turn = today.toordinal() * _RANGES_A_NIGHT % len(found) if len(found) > _RANGES_A_NIGHT else 0
    return [day for first, last in (found[turn:] + found[:turn])[:_RANGES_A_NIGHT] for day in span(first, last)]


def summary(report: RetentionReport) -> str:
    """One line about a run."""
    verb = "would be deleted" if report.dry_run else "deleted"
    parts = [f"{report.source}: {report.rows:,} rows of {len(report.by_tenant())} tenants {verb}"]
    counts: Mapping[str, Sequence[object]] = {
        "differ from their archive": report.unequal,
        "kept because the archive does not hold them any more": list(report.unproven),
        "kept because the table lacks columns that were archived": list(report.incomparable),
        "would be archived anew first": list(report.anew),
        "days archived anew": report.rearchived,
        "days that could not be archived anew": list(report.not_rearchived),
        "were gone already": report.gone,
        "blocked by locks": list(report.blocked),
        "left for the next run": report.left,
    }
    parts += [f"{len(what)} {name}" for name, what in counts.items() if what]
    return ", ".join(parts)


def _mode(settings: Settings) -> str:
    if archive_mode(settings, AUDIT_LOG) is Archive.OFF:
        return (
            "**Nothing is archived first** (`ADINSIGHTS_RETENTION__ARCHIVE=off`): age alone decides, and what is"
            " deleted is gone for ever."
        )
    return "Only rows whose archived day still equals the table are deleted."
