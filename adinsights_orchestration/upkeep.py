"""Housekeeping of Dagster's own history: the job `history_prune` and its schedule.

Belongs here: the Dagster shell around `dagster_internals.history`. Does not belong here: the orchestrator's own tables.
Open-source Dagster never deletes a finished run, its output or an event; unpruned, the event log grows by every sync
and the disk by every dbt build for ever.
"""

import time
from datetime import timedelta

import dagster as dg

from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.dagster_internals.history import prune_history
from adinsights_orchestration.dead_runs import proof_of_life
from adinsights_orchestration.environments import Automation
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.unattended import declared, queue_tags, schedule_status

_BUDGET_MINUTES = 30
_SHOWN = 20  # of what could not be deleted


class PruneConfig(dg.Config):
    """How far to prune in this run; the defaults are the environment's settings."""

    keep_runs_days: int | None = None
    keep_runless_events_days: int | None = None
    budget_minutes: int = _BUDGET_MINUTES


def build_upkeep(settings: Settings, store: OpsStore) -> dg.Definitions:
    """Builds the pruning job, and its schedule where the environment declares one."""

    @dg.op(
        name="prune",
        description=(
            "Deletes finished runs with their captured output, and old events, but never the newest state of an asset,"
            " partition or check."
        ),
    )
    def prune(context: dg.OpExecutionContext, config: PruneConfig) -> None:
        with proof_of_life(context, store):
            deadline = time.monotonic() + config.budget_minutes * 60
            now = utc_now()
            pruned = prune_history(
                context.instance,
                runs_before=now - timedelta(days=config.keep_runs_days or settings.dagster.keep_runs_days),
                events_before=now
                - timedelta(days=config.keep_runless_events_days or settings.dagster.keep_runless_events_days),
                keep_going=lambda: time.monotonic() < deadline,
            )
        context.add_output_metadata(
            {
                "runs deleted": pruned.runs,
                "runs kept because they hold an asset's newest state": pruned.runs_kept_for_state,
                "events deleted": pruned.events,
                "check results deleted": pruned.check_rows,
                "runs whose output and stored results were deleted": pruned.output,
                "could not be deleted": "\n".join(pruned.undeletable[:_SHOWN]) or "nothing",
                "finished": pruned.done,
            }
        )

    @dg.job(
        name=Automation.PRUNE.value,
        description="Prunes Dagster's own history. When it does not run, storage grows and the UI slows down.",
        # Two at once would delete the same rows and wait for each other.
        tags={"adinsights/kind": "upkeep", **queue_tags(settings, Automation.PRUNE)},
        executor_def=dg.in_process_executor,
    )
    def history_prune() -> None:
        prune()

    return dg.Definitions(jobs=[history_prune], schedules=_schedules(settings, history_prune))


def _schedules(settings: Settings, job: dg.JobDefinition) -> list[dg.ScheduleDefinition]:
    unattended = declared(settings, Automation.PRUNE)
    if unattended is None:
        return []
    return [
        dg.ScheduleDefinition(
            name=Automation.PRUNE.schedule,
            job=job,
            cron_schedule=unattended.cron,
            execution_timezone=settings.home_timezone,
            default_status=schedule_status(settings, unattended),
            description="Every night, after the nightly build.",
        )
    ]
