"""Nights in Dagster: the job that plans one, and its schedule, where the environment declares them.

Belongs here: the Dagster shell around `night`. Does not belong here: starting what was planned (`trigger`). It is a job
and not the schedule's own evaluation: a person can run it again, Dagster runs it again when it died, and whoever
previews the schedule in the UI plans nothing.
"""

# No postponed annotations: Dagster reads the context's class off the function's parameters.
import dagster as dg

from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.environments import Automation, Unattended
from adinsights_orchestration.ingestion.assets import MakeDeps
from adinsights_orchestration.ingestion.night import plan_night
from adinsights_orchestration.settings import Driver, Settings
from adinsights_orchestration.unattended import declared, queue_tags, schedule_status

NIGHT_OP = "plan_night"
# Planning a night twice plans nothing twice, so a run that died or met a database that restarts may be run again.
_REPEATABLE = {"dagster/max_retries": "3", "dagster/retry_on_asset_or_op_failure": "true"}


def build_night(settings: Settings, make_deps: MakeDeps) -> dg.Definitions:
    """Builds the job `sync_nightly` and its schedule; nothing where the environment follows the connections' own."""
    unattended = declared(settings, Automation.SYNC_NIGHTLY)
    if unattended is None:
        return dg.Definitions()
    job = _job(settings, str(unattended.cron), make_deps)
    return dg.Definitions(jobs=[job], schedules=[_schedule(settings, unattended, job)])


def _job(settings: Settings, cron: str, make_deps: MakeDeps) -> dg.JobDefinition:
    text = (
        "Plans one sync of every active connection for the newest night. Running it again plans nothing twice. The "
        f"sensor {Automation.START} starts the syncs and tries failed ones again."
    )

    @dg.op(name=NIGHT_OP, description=text)
    def plan(context: dg.OpExecutionContext) -> None:
        night = plan_night(make_deps(), cron, utc_now())
        context.log.info(night.describe())
        context.add_output_metadata({"slot": night.slot.isoformat(), "active": night.active, "planned": night.planned})

    @dg.job(
        name=Automation.SYNC_NIGHTLY.value,
        description=text,
        tags={"adinsights/kind": "ingestion", **_REPEATABLE, **queue_tags(settings, Automation.SYNC_NIGHTLY)},
        executor_def=dg.in_process_executor,
    )
    def sync_nightly() -> None:
        plan()

    return sync_nightly


def _schedule(settings: Settings, unattended: Unattended, job: dg.JobDefinition) -> dg.ScheduleDefinition:
    @dg.schedule(
        name=Automation.SYNC_NIGHTLY.schedule,
        job=job,
        cron_schedule=str(unattended.cron),
        execution_timezone=settings.home_timezone,
        default_status=schedule_status(settings, unattended),
        description="Plans a sync of every active connection, once a night.",
    )
    def sync_nightly_plan() -> dg.RunRequest | dg.SkipReason:
        if settings.ingestion.driver is Driver.EXTERNAL:
            return dg.SkipReason("the driver is external: nothing is started from here")
        return dg.RunRequest()

    return sync_nightly_plan
