"""The archive in Dagster: the asset `audit_log/archive`, a partition per UTC day, its checks, its job, its schedule.

Belongs here: runs, their metadata, and when they start. Does not belong here: archiving (`run`), proving
(`reading.verify`). A backfill of any range is one run, because a range is one scan of the table. The days that a run
has sealed are reported even when it fails on a later one.
"""

# No postponed annotations: Dagster reads the type of an asset's context.
from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from adinsights_orchestration.audit_log.alerts import set_off_by
from adinsights_orchestration.audit_log.archive import reporting, showing
from adinsights_orchestration.audit_log.archive.report import ArchiveReport
from adinsights_orchestration.audit_log.archive.showing import KEY
from adinsights_orchestration.audit_log.archive.turns import read_back
from adinsights_orchestration.audit_log.bookkeeping.ledger import ArchivedDay, ArchiveLedger
from adinsights_orchestration.audit_log.days import last_closed, missing
from adinsights_orchestration.audit_log.journal import actor_of
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
_SET_OFF = set_off_by(KEY.to_user_string())


def build_archive(
    settings: Settings,
    store: OpsStore,
    besides: Sequence[Source] = (),
    *,
    clock: Clock = utc_now,
    quietly: Quietly = as_ever,
) -> dg.Definitions:
    """Builds the asset, its checks and job, and the schedule where the environment declares one.

    Args:
        settings: Addresses and limits.
        store: The ops store.
        besides: Other tables that are declared to be archived: the same days, in the same run.
        clock: The present moment.
        quietly: Keeps quiet, while days are archived, that they are late to be.
    """
    sources = (AUDIT_LOG, *besides)
    archive_days = _asset(settings, store, sources, clock, quietly)
    job = dg.define_asset_job(
        Automation.ARCHIVE.value,
        selection=dg.AssetSelection.assets(KEY),
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
        specs=[_spec(settings)],
        check_specs=[
            dg.AssetCheckSpec(ALL_ARCHIVED, asset=KEY, description="Every closed day is archived."),
            dg.AssetCheckSpec(
                CHAIN_INTACT,
                asset=KEY,
                description="The manifests are a chain without a gap; days that are read back are as they were sealed.",
            ),
        ],
        can_subset=True,
        backfill_policy=dg.BackfillPolicy.single_run(),
    )
    def archive_days(context: dg.AssetExecutionContext) -> Iterator[dg.AssetMaterialization | dg.AssetCheckResult]:
        reports: list[ArchiveReport] = []
        problems: list[str] = []
        with proof_of_life(context.op_execution_context, store):
            # Whoever executes the checks alone names no day, and asks for nothing to be archived.
            if context.selected_asset_keys:
                with quietly(*_SET_OFF, author=actor_of(context.run.tags), reason="days are being archived"):
                    for source in sources:  # one that fails keeps no other waiting
                        try:
                            _archive(context, settings, store, clock, source, reports if source is AUDIT_LOG else [])
                        except AdinsightsError as error:
                            problems.append(_about(source, str(error)))
                archived = _archived(settings, store, clock)
                ran = {day.day for report in reports for day in report.days}
                others = {day: each for day, each in archived.items() if day not in ran}
                reporting.tell(context.instance, others, clock())  # before this run's own: the last one is the newest
                yield from _materializations(reports, archived)
            # A check that depended on the asset's output would be skipped: the days are reported without one.
            try:
                asked = {key.name for key in context.selected_asset_check_keys}
                yield from (result for result in _checks(settings, store, sources, clock) if result.check_name in asked)
            except AdinsightsError as error:
                problems.append(str(error))
        if problems:
            raise dg.Failure("\n".join(dict.fromkeys(problems)), allow_retries=False)

    return archive_days


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
            narrower="dagster/schedule_name" not in context.run.tags,
        )
    if kept := reports[-1].kept:
        (_, day), why = min(kept.items(), key=lambda each: each[0][1])
        said = f"{len(kept)} tenants' days stay as they were archived, though the table says otherwise; {day}: {why}"
        context.log.warning(_about(source, said))


def _about(source: Source, what: str) -> str:
    return what if source is AUDIT_LOG else f"{source.name}: {what}"


def _archived(settings: Settings, store: OpsStore, clock: Clock) -> dict[date, ArchivedDay]:
    """All that the archive holds, day by day."""
    return ArchiveLedger(store, AUDIT_LOG.name).days(settings.audit_log.first_day, _closed(settings, clock))


def _spec(settings: Settings) -> dg.AssetSpec:
    partitions = dg.DailyPartitionsDefinition(start_date=settings.audit_log.first_day.isoformat(), timezone="UTC")
    return dg.AssetSpec(
        KEY,
        partitions_def=partitions,
        skippable=True,  # the days are reported one by one, as they are sealed
        group_name="audit_log",
        owners=[PLATFORM_ENG],
        kinds={"postgres", "parquet"},
        description=(
            "The audit log's closed days, proven archived. While it is late nothing old is deleted, and a tenant that"
            " is deleted takes its unarchived rows along."
        ),
        metadata={"runbook": dg.MetadataValue.url(f"{settings.runbook_url}#{_RUNBOOK}")},
    )


def _closed(settings: Settings, clock: Clock) -> date:
    return last_closed(clock(), timedelta(minutes=settings.audit_log.settle_minutes))


def _materializations(
    reports: list[ArchiveReport], archived: dict[date, ArchivedDay]
) -> Iterator[dg.AssetMaterialization]:
    for report in reports:
        for day in report.days:
            metadata: dict[str, Any] = showing.of_day(day)
            if day is report.days[-1]:
                metadata |= showing.of_run(report, {each.day: each.rows for each in archived.values()})
            yield dg.AssetMaterialization(KEY, partition=day.day.isoformat(), metadata=metadata)


def _checks(
    settings: Settings, store: OpsStore, sources: Sequence[Source], clock: Clock
) -> Iterator[dg.AssetCheckResult]:
    first, closed = settings.audit_log.first_day, _closed(settings, clock)
    gaps = _gaps(settings, store, sources, closed)
    rows = {day.day: day.rows for day in _archived(settings, store, clock).values()}
    yield dg.AssetCheckResult(
        asset_key=KEY,
        check_name=ALL_ARCHIVED,
        passed=not gaps,
        description=f"{len(gaps)} closed days are not archived" if gaps else f"all to {closed} are archived",
        metadata={
            "closed days": (closed - first).days + 1,
            "not archived": len(gaps),
            "the first of them": str(gaps[0]) if gaps else "none",
            "rows per day": dg.MetadataValue.md(showing.picture(rows)),
        },
    )
    reports = {source: _read_back(settings, store, source, clock) for source in sources}
    problems = [_about(source, problem) for source, report in reports.items() for problem in report.problems]
    manifests = sum(report.manifests for report in reports.values())
    yield dg.AssetCheckResult(
        asset_key=KEY,
        check_name=CHAIN_INTACT,
        passed=not problems,
        description=problems[0] if problems else f"{manifests} manifests hold",
        metadata={
            "manifests": manifests,
            "head": reports[AUDIT_LOG].head,
            "rows read back": sum(report.rows for report in reports.values()),
            "objects read back": sum(report.objects for report in reports.values()),
            "problems": dg.MetadataValue.json(problems[:100]),
        },
    )


def _gaps(settings: Settings, store: OpsStore, sources: Sequence[Source], closed: date) -> list[date]:
    """The closed days of which a table is not archived."""
    first = settings.audit_log.first_day
    ledgers = [ArchiveLedger(store, source.name) for source in sources]
    return sorted({day for each in ledgers for day in missing(first, closed, each.days(first, closed))})


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
        gaps = _gaps(settings, store, sources, closed)
        begin = min([*gaps[:1], max(first, closed - timedelta(days=_LOOKED_AT_AGAIN - 1))])
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
