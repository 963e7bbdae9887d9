"""The archive in Dagster: an asset for each table with a partition per UTC day and two checks; one job, one schedule.

Belongs here: runs, their metadata, and when they start. Does not belong here: archiving (`run`), proving
(`reading.verify`). A backfill of any range is one run, because a range is one scan of the table. The days that a run
has sealed are reported even when it fails on a later one. A table that fails keeps no other one waiting.
"""

# No postponed annotations: Dagster reads the type of an asset's context.
from collections.abc import Container, Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from adinsights_orchestration.audit_log.alerts import archive_asset, set_off_by
from adinsights_orchestration.audit_log.archive import reporting, showing
from adinsights_orchestration.audit_log.archive.report import ArchiveReport
from adinsights_orchestration.audit_log.archive.showing import key_of
from adinsights_orchestration.audit_log.archive.turns import read_back
from adinsights_orchestration.audit_log.bookkeeping.ledger import ArchivedDay, ArchiveLedger
from adinsights_orchestration.audit_log.days import last_closed, missing
from adinsights_orchestration.audit_log.journal import actor_of, asked_in_the_ui
from adinsights_orchestration.audit_log.source import AUDIT_LOG, Source
from adinsights_orchestration.audit_log.store.opening import open_store
from adinsights_orchestration.audit_log.telling import telling
from adinsights_orchestration.clock import Clock, utc_now
from adinsights_orchestration.dead_runs import proof_of_life
from adinsights_orchestration.environments import Automation
from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.owners import PLATFORM_ENG
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.unattended import Quietly, as_ever, declared, queue_tags, schedule_status

if TYPE_CHECKING:
    from adinsights_orchestration.audit_log.reading.verify import VerifyReport

ALL_ARCHIVED, CHAIN_INTACT = "every_closed_day_archived", "chain_intact"
_RUNBOOK = "the-audit-log-is-not-archived-or-not-deleted"
_LOOKED_AT_AGAIN = 3  # closed days that each night looks at again, for rows that were committed late
_TOLD_EVERY_SECONDS = 10.0


def build_archive(
    settings: Settings,
    store: OpsStore,
    besides: Sequence[Source] = (),
    *,
    clock: Clock = utc_now,
    quietly: Quietly = as_ever,
) -> dg.Definitions:
    """Builds the assets, their checks and job, and the schedule where the environment declares one.

    Args:
        settings: Addresses and limits.
        store: The ops store.
        besides: Other tables that are declared to be archived: an asset each, the same days in the same nightly run.
        clock: The present moment.
        quietly: Keeps quiet, while days are archived, that they are late to be.
    """
    sources = (AUDIT_LOG, *besides)
    archive_days = _asset(settings, store, sources, clock, quietly)
    job = dg.define_asset_job(
        Automation.ARCHIVE.value,
        selection=dg.AssetSelection.assets(*map(key_of, sources)),
        description="Archives closed days of the audit log. When it does not run, nothing old may be deleted.",
        tags={"adinsights/kind": "audit_log", **queue_tags(settings, Automation.ARCHIVE)},
        executor_def=dg.in_process_executor,
    )
    return dg.Definitions(
        assets=[archive_days],
        jobs=[job],
        schedules=_schedules(settings, store, sources, clock, job),
    )


def _asset(
    settings: Settings, store: OpsStore, sources: Sequence[Source], clock: Clock, quietly: Quietly
) -> dg.AssetsDefinition:
    @dg.multi_asset(
        name="audit_log_archive_days",
        description="Archives the range's days in one scan of the table, and proves what it wrote from the store.",
        specs=[_spec(settings, source) for source in sources],
        check_specs=[each for source in sources for each in _check_specs(source)],
        can_subset=True,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def archive_days(context: dg.AssetExecutionContext) -> Iterator[dg.AssetMaterialization | dg.AssetCheckResult]:
        problems: list[str] = []
        with proof_of_life(context.op_execution_context, store):
            # Whoever executes the checks alone names no day, and asks for nothing to be archived.
            if chosen := [source for source in sources if key_of(source) in context.selected_asset_keys]:
                set_off = set_off_by(*map(archive_asset, chosen))
                with quietly(*set_off, author=actor_of(context.run.tags), reason="days are being archived"):
                    for source in chosen:
                        yield from _archived_days(context, settings, store, clock, source, problems)
            # A check that depended on the asset's output would be skipped: the days are reported without one.
            for source in sources:
                asked = {each.name for each in context.selected_asset_check_keys if each.asset_key == key_of(source)}
                try:
                    yield from _checks(settings, store, source, clock, asked)
                except AdinsightsError as error:
                    problems.append(_about(source, str(error)))
        if problems:
            raise dg.Failure("\n".join(dict.fromkeys(problems)), allow_retries=False)

    return archive_days


def _archived_days(
    context: dg.AssetExecutionContext,
    settings: Settings,
    store: OpsStore,
    clock: Clock,
    source: Source,
    problems: list[str],
) -> Iterator[dg.AssetMaterialization]:
    """Archives the run's days of a table, and reports them; what fails is added to the problems."""
    reports: list[ArchiveReport] = []
    try:
        _archive(context, settings, store, clock, source, reports)
    except AdinsightsError as error:
        problems.append(_about(source, str(error)))
    archived = _archived(settings, store, source, clock)
    ran = {day.day for report in reports for day in report.days}
    others = {day: each for day, each in archived.items() if day not in ran}
    reporting.tell(context.instance, source, others, clock())  # before this run's own: the last one is the newest
    yield from _materializations(source, reports, archived)


def _archive(
    context: dg.AssetExecutionContext,
    settings: Settings,
    store: OpsStore,
    clock: Clock,
    source: Source,
    reports: list[ArchiveReport],
) -> None:
    """Archives the run's days of a table, and says in its log every few seconds how far it is."""
    from adinsights_orchestration.audit_log.archive.run import Archiver  # loads Arrow and DuckDB: not at every load

    window = context.partition_key_range
    first, last = date.fromisoformat(window.start), date.fromisoformat(window.end)
    ledger, total = ArchiveLedger(store, source.name), (last - first).days + 1
    before = ledger.days(first, last)

    def progress() -> str:
        days = ledger.days(first, last)
        sealed = sum(day not in before or each.revision > before[day].revision for day, each in days.items())
        return _about(source, f"{sealed} of {total} days sealed so far") if sealed else ""

    archiver = Archiver(settings, store, source, clock=clock)
    with telling(context.log.info, progress, every_seconds=_TOLD_EVERY_SECONDS):
        archiver.run(
            first,
            last,
            actor=actor_of(context.run.tags),
            run_id=context.run.run_id,
            report_to=reports.append,
            narrower=asked_in_the_ui(context.run.tags),
        )
    if kept := reports[-1].kept:
        (_, day), why = min(kept.items(), key=lambda each: each[0][1])
        said = f"{len(kept)} tenants' days stay as they were archived, though the table says otherwise; {day}: {why}"
        context.log.warning(_about(source, said))


def _about(source: Source, what: str) -> str:
    return what if source is AUDIT_LOG else f"{source.name}: {what}"


def _archived(settings: Settings, store: OpsStore, source: Source, clock: Clock) -> Mapping[date, ArchivedDay]:
    """All that the archive holds of a table, day by day."""
    return ArchiveLedger(store, source.name).days(settings.audit_log.first_day, _closed(settings, clock))


def _spec(settings: Settings, source: Source) -> dg.AssetSpec:
    partitions = dg.DailyPartitionsDefinition(start_date=settings.audit_log.first_day.isoformat(), timezone="UTC")
    late = "While it is late nothing old of it is deleted."
    if source is AUDIT_LOG:
        late = "While it is late nothing old is deleted, and a tenant that is deleted takes its unarchived rows along."
    what = "The audit log's closed days" if source is AUDIT_LOG else f"The closed days of {source.table}"
    return dg.AssetSpec(
        key_of(source),
        partitions_def=partitions,
        skippable=True,  # the days are reported one by one, as they are sealed
        group_name="audit_log",
        owners=[PLATFORM_ENG],
        kinds={"postgres", "parquet"},
        description=f"{what}, proven archived. {late}",
        metadata={"runbook": dg.MetadataValue.url(f"{settings.runbook_url}#{_RUNBOOK}")},
    )


def _closed(settings: Settings, clock: Clock) -> date:
    return last_closed(clock(), timedelta(minutes=settings.audit_log.settle_minutes))


def _materializations(
    source: Source, reports: Sequence[ArchiveReport], archived: Mapping[date, ArchivedDay]
) -> Iterator[dg.AssetMaterialization]:
    for report in reports:
        for day in report.days:
            metadata: dict[str, Any] = showing.of_day(day)
            if day is report.days[-1]:
                metadata |= showing.of_run(report, {each.day: each.rows for each in archived.values()})
            yield dg.AssetMaterialization(key_of(source), partition=day.day.isoformat(), metadata=metadata)


def _check_specs(source: Source) -> Iterator[dg.AssetCheckSpec]:
    key = key_of(source)
    yield dg.AssetCheckSpec(ALL_ARCHIVED, asset=key, description="Every closed day is archived.")
    yield dg.AssetCheckSpec(
        CHAIN_INTACT,
        asset=key,
        description="The manifests are a chain without a gap; days that are read back are as they were sealed.",
    )


def _checks(
    settings: Settings, store: OpsStore, source: Source, clock: Clock, asked: Container[str]
) -> Iterator[dg.AssetCheckResult]:
    """Those of a table's checks that were asked for."""
    if ALL_ARCHIVED in asked:
        yield _all_archived(settings, store, source, clock)
    if CHAIN_INTACT in asked:
        yield _chain_intact(settings, store, source, clock)


def _all_archived(settings: Settings, store: OpsStore, source: Source, clock: Clock) -> dg.AssetCheckResult:
    first, closed = settings.audit_log.first_day, _closed(settings, clock)
    archived = _archived(settings, store, source, clock)
    gaps = missing(first, closed, archived)
    return dg.AssetCheckResult(
        asset_key=key_of(source),
        check_name=ALL_ARCHIVED,
        passed=not gaps,
        description=f"{len(gaps)} closed days are not archived" if gaps else f"all to {closed} are archived",
        metadata={
            "closed days": (closed - first).days + 1,
            "not archived": len(gaps),
            "the first of them": str(gaps[0]) if gaps else "none",
            "rows per day": dg.MetadataValue.md(showing.picture({day: each.rows for day, each in archived.items()})),
        },
    )


def _chain_intact(settings: Settings, store: OpsStore, source: Source, clock: Clock) -> dg.AssetCheckResult:
    report = _read_back(settings, store, source, clock)
    return dg.AssetCheckResult(
        asset_key=key_of(source),
        check_name=CHAIN_INTACT,
        passed=not report.problems,
        description=report.problems[0] if report.problems else f"{report.manifests} manifests hold",
        metadata={
            "manifests": report.manifests,
            "head": report.head,
            "rows read back": report.rows,
            "objects read back": report.objects,
            "problems": dg.MetadataValue.json(report.problems[:100]),
        },
    )


def _read_back(settings: Settings, store: OpsStore, source: Source, clock: Clock) -> "VerifyReport":
    """The whole chain, held against the ledger; of the objects the newest days', and the older ones' in turn."""
    from adinsights_orchestration.audit_log.reading.verify import verify_range  # loads Arrow and DuckDB

    log, closed = settings.audit_log, _closed(settings, clock)
    chosen = read_back(clock().date(), closed)
    _, head = ArchiveLedger(store, source.name).head()
    return verify_range(open_store(log), source, log.first_day, closed, at_once=log.at_once, head=head, only=chosen)


def _schedules(
    settings: Settings, store: OpsStore, sources: Sequence[Source], clock: Clock, job: Any
) -> list[dg.ScheduleDefinition]:
    unattended = declared(settings, Automation.ARCHIVE)
    if unattended is None:
        return []

    def tick(_context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        first, closed = settings.audit_log.first_day, _closed(settings, clock)
        if closed < first:
            return dg.SkipReason(f"no day since {first} is closed yet")
        archived = [_archived(settings, store, source, clock) for source in sources]
        gaps = [day for each in archived for day in missing(first, closed, each)[:1]]
        begin = min([*gaps, max(first, closed - timedelta(days=_LOOKED_AT_AGAIN - 1))])
        return dg.RunRequest(
            run_key=f"{closed}",
            tags={
                "dagster/asset_partition_range_start": begin.isoformat(),
                "dagster/asset_partition_range_end": closed.isoformat(),
            },
        )

    assert unattended.cron is not None
    return [
        dg.ScheduleDefinition(
            name=Automation.ARCHIVE.schedule,
            job=job,
            cron_schedule=unattended.cron,
            execution_timezone=settings.home_timezone,
            execution_fn=tick,
            default_status=schedule_status(settings, unattended),
            description="Every night: the days that are not archived yet, and the newest ones again for late rows.",
        )
    ]
