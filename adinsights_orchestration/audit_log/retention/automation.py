"""Retention in Dagster: the asset `audit_log/retention`, its checks, its job and its schedule.

Belongs here: runs, metadata and a line about each. Does not belong here: deleting (`run`), counting (`census`).
Metadata holds counts and dates, never what a row says.
"""

# No postponed annotations: Dagster reads the type of an asset's context.
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from datetime import date
from functools import partial

import dagster as dg
from pydantic import Field

from adinsights_orchestration.audit_log import restored
from adinsights_orchestration.audit_log.alerts import set_off_by
from adinsights_orchestration.audit_log.archive.showing import picture
from adinsights_orchestration.audit_log.days import ranges, span
from adinsights_orchestration.audit_log.dry_runs import outcome
from adinsights_orchestration.audit_log.journal import actor_of
from adinsights_orchestration.audit_log.model import At
from adinsights_orchestration.audit_log.retention import showing
from adinsights_orchestration.audit_log.retention.account import so_far
from adinsights_orchestration.audit_log.retention.again import Rearchive, Unproven, archived_anew
from adinsights_orchestration.audit_log.retention.census import Ages, Census, judge_ages, take_census
from adinsights_orchestration.audit_log.retention.chunks import archived_days, mark_gone, rows_in_table
from adinsights_orchestration.audit_log.retention.policy import current_policy
from adinsights_orchestration.audit_log.retention.run import Retention, RetentionReport, archive_mode, lock_name
from adinsights_orchestration.audit_log.retention.shape import names_of, shape_of
from adinsights_orchestration.audit_log.retention.showing import KEY
from adinsights_orchestration.audit_log.source import AUDIT_LOG, Archive, Source
from adinsights_orchestration.audit_log.table.access import Right, require_access
from adinsights_orchestration.audit_log.table.reaching import reached
from adinsights_orchestration.audit_log.telling import telling
from adinsights_orchestration.audit_log.tenant_names import TenantName, tenant_names
from adinsights_orchestration.clock import Clock, utc_now
from adinsights_orchestration.dead_runs import proof_of_life
from adinsights_orchestration.environments import Automation
from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.owners import PLATFORM_ENG
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.unattended import Quietly, as_ever, declared, queue_tags, schedule_status

TOO_OLD, VANISHED = "no_row_past_its_window", "no_row_vanished"
_RUNBOOK = "the-audit-logs-retention"
_SHOWN = 20
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
    @dg.multi_asset(
        name="audit_log__retention",
        description="Deletes what may go, then counts the rows of every tenant's day once, and holds them against"
        " windows and archive.",
        specs=[_spec(settings)],
        check_specs=_check_specs(),
        can_subset=True,
    )
    def retention(
        context: dg.AssetExecutionContext, config: RetentionConfig
    ) -> Iterator[dg.MaterializeResult[None] | dg.AssetObservation | dg.AssetCheckResult]:
        with proof_of_life(context.op_execution_context, store):
            problems: list[str] = []
            go = not config.dry_run
            report, history = None, dict[str, int]()
            progress = partial(so_far, store, (AUDIT_LOG, *own))
            if context.selected_asset_keys:  # whoever executes the checks alone asks for nothing to be deleted
                actor = actor_of(context.run.tags)
                quiet = quietly(*_SET_OFF, author=actor, reason="retention is at work") if go else nullcontext()
                with quiet, telling(context.log.info, progress, every_seconds=_TOLD_EVERY_SECONDS):
                    run = Retention(settings, store, AUDIT_LOG, clock, actor, rearchive, go, unproven)
                    report = _ran(context, run, problems)
                    for each in own:
                        again, asks = (rearchive, unproven) if each.archive is Archive.REQUIRED else (None, None)
                        run = Retention(settings, store, each, clock, actor, again, go, asks)
                        if (pruned := _ran(context, run, problems)) is not None and pruned.rows:
                            history[each.name] = pruned.rows
            try:
                for each in (AUDIT_LOG, *own) if go and context.selected_asset_keys else ():
                    restored.account_for_the_dead(store, each, clock())
                census, ages = (settled_census if report and go else census_of)(settings, store, AUDIT_LOG, clock)
            except AdinsightsError as error:
                raise _failure([*problems, str(error)]) from None
            name = tenant_names(store)
            if report is not None:
                metadata = showing.of_run(report, name) | showing.of_table(census, ages)
                metadata["own history"] = dg.MetadataValue.json(history)
                yield outcome(KEY, metadata, dry_run=config.dry_run)
            asked = {key.name for key in context.selected_asset_check_keys}
            yield from (
                each for each in (too_old(ages, census, name), vanished(ages, name)) if each.check_name in asked
            )
            # Last, so that a failure hides nothing; what is due among these rows goes with the next night's run.
            archived = archive_mode(settings, AUDIT_LOG) is Archive.REQUIRED
            if report is not None and go and rearchive is not None and archived:
                late = [day for day in to_archive_again(ages, clock().date()) if day not in report.not_rearchived]
                problems += _archive_late(context, rearchive, late)
            if problems:
                raise _failure(problems)

    return retention


def _check_specs() -> list[dg.AssetCheckSpec]:
    too_old = "No audit row is older than its window plus two days, but for holds."
    gone = "No archived row left the table before its window was over or while its day was held."
    return [
        dg.AssetCheckSpec(TOO_OLD, asset=KEY, description=too_old),
        dg.AssetCheckSpec(VANISHED, asset=KEY, description=gone),
    ]


def _ran(context: dg.AssetExecutionContext, retention: Retention, problems: list[str]) -> RetentionReport | None:
    """One table's run. What fails is told in the end: it keeps no other table waiting, and no check."""
    try:
        report = retention.run()
    except AdinsightsError as error:
        problems.append(str(error))
        return None
    context.log.info(summary(report))
    if report.failure:
        problems.append(report.failure)
    return report


def _archive_late(context: dg.AssetExecutionContext, rearchive: Rearchive, late: Sequence[date]) -> Iterator[str]:
    """Archives days again of which rows came late; returns what is to be told of those that could not be."""
    if not late:
        return
    context.log.info("%d days with rows that came late are archived again", len(late))
    if failed := archived_anew(rearchive, AUDIT_LOG, late):
        first = min(failed)
        yield f"{len(failed)} days with rows that came late could not be archived again; {first}: {failed[first]}"


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


def census_of(settings: Settings, store: OpsStore, source: Source, clock: Clock) -> tuple[Census, Ages]:
    """What a table holds now and what is wrong with it, by one scan."""
    policy = current_policy(settings, store, source, clock)
    tenants = sorted(policy.windows)
    with reached(settings, source) as connection:
        with connection.transaction(force_rollback=True), connection.cursor() as cursor:
            access = require_access(cursor, source.table, tenants, (Right.SELECT,), tenant=source.tenant)
        shape = shape_of(source, (), fast=True)
        census = take_census(connection, shape, access, tenants, policy.today, policy.resource_holds())
        present = names_of(connection, source)
    with store.begin() as ledger:
        in_table, archived = rows_in_table(ledger, source.name), archived_days(ledger, source.name, present)
    return census, judge_ages(census, policy, in_table, archived)


def settled_census(settings: Settings, store: OpsStore, source: Source, clock: Clock) -> tuple[Census, Ages]:
    """The same, and what is gone for good is so in the ledger too: else such days would never leave the archive.

    Rows that went with their tenant, and those past their time of which the table has none. While somebody restores,
    the ledger may name rows that are about to come: then another night settles it.
    """
    with store.exclusive(lock_name(source)) as mine:
        census, ages = census_of(settings, store, source, clock)
        if mine and (ages.departed or ages.gone):
            with store.begin() as ledger:
                mark_gone(ledger, source.name, [*ages.departed, *ages.gone], clock())
    return census, ages


def to_archive_again(ages: Ages, today: date) -> list[date]:
    """Days with rows that came late, in few scans of the table: the oldest, or where there are more each in its turn.

    A later night has the rest. Were the oldest always first, those that cannot be archived would keep all others out.
    """
    found = ranges(sorted({day for _, day in ages.late}))
    turn = today.toordinal() * _RANGES_A_NIGHT % len(found) if len(found) > _RANGES_A_NIGHT else 0
    return [day for first, last in (found[turn:] + found[:turn])[:_RANGES_A_NIGHT] for day in span(first, last)]


def too_old(ages: Ages, census: Census, name: TenantName = str) -> dg.AssetCheckResult:
    """The check that nothing is kept for too long."""
    rows = sum(ages.overdue.values())
    passed = not rows and not ages.unknown and not census.undated
    parts = [f"{rows:,} rows are past their window by more than two days"] if rows else []
    if ages.unknown:
        parts.append(f"{sum(ages.unknown.values()):,} old rows are of {len(ages.unknown)} tenants nobody knows")
    if census.undated:
        parts.append(f"{census.undated:,} rows have no time, or one before the year 1")
    oldest = census.oldest.isoformat() if census.oldest else "none"
    return dg.AssetCheckResult(
        asset_key=KEY,
        check_name=TOO_OLD,
        passed=passed,
        description="; ".join(parts) or f"The oldest day in the table is {oldest}.",
        metadata={
            "oldest day": oldest,
            "overdue rows": rows,
            "held rows past their window": sum(ages.held.values()),
            "overdue by tenant": dg.MetadataValue.json(_by_tenant(ages.overdue, name)),
            "unknown tenants": dg.MetadataValue.json({str(each): rows for each, rows in ages.unknown.items()}),
            "rows per day": dg.MetadataValue.md(picture(census.per_day())),
        },
    )


def vanished(ages: Ages, name: TenantName = str) -> dg.AssetCheckResult:
    """The check that nobody else deletes audit rows."""
    rows, departed = sum(ages.vanished.values()), sum(ages.departed.values())
    along = f" {departed:,} went with {len({each for each, _ in ages.departed})} tenants who left." if departed else ""
    return dg.AssetCheckResult(
        asset_key=KEY,
        check_name=VANISHED,
        passed=not rows,
        description=f"{rows:,} archived rows left the table before their time; the archive has them."
        if rows
        else f"Every archived row inside its window or under a hold is in the table.{along}",
        metadata={
            "rows": rows,
            "by tenant": dg.MetadataValue.json(_by_tenant(ages.vanished, name)),
            "went with tenants who left": dg.MetadataValue.json(_by_tenant(ages.departed, name)),
            "days": dg.MetadataValue.json(sorted({day.isoformat() for _, day in ages.vanished})[:_SHOWN]),
        },
    )


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


def _by_tenant(rows: Mapping[At, int], name: TenantName) -> dict[str, int]:
    counted: Counter[str] = Counter()
    for (tenant, _), count in rows.items():
        counted[name(tenant)] += count
    return dict(counted.most_common(_SHOWN))


def _mode(settings: Settings) -> str:
    if archive_mode(settings, AUDIT_LOG) is Archive.OFF:
        return (
            "**Nothing is archived first** (`ADINSIGHTS_RETENTION__ARCHIVE=off`): age alone decides, and what is"
            " deleted is gone for ever."
        )
    return "Only rows whose archived day still equals the table are deleted."
