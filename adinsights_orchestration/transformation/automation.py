"""What starts dbt builds unattended: the sensor `dbt_refresh`, the schedule `dbt_nightly`, and their jobs.

Belongs here: the Dagster shell around `refresh`. Does not belong here: the decision itself, and how often it is made
(`environments.py`). The sensor looks often and builds at most once per interval; it also publishes results that a build
could not. The nightly build takes everything, snapshots and seeds too, and never refreshes anything in full.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import dagster as dg

from adinsights_orchestration.clock import Clock, utc_now
from adinsights_orchestration.dagster_internals.types import AssetJob
from adinsights_orchestration.environments import Automation, Unattended
from adinsights_orchestration.logs import correlated, correlation_tags
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.tenants.model import Provider
from adinsights_orchestration.transformation.builds import is_building
from adinsights_orchestration.transformation.invocations import coverage, node_statuses
from adinsights_orchestration.transformation.newest import newest_states
from adinsights_orchestration.transformation.project import Project
from adinsights_orchestration.transformation.publishing import PublishError, publish
from adinsights_orchestration.transformation.refresh import Attempt, Start, Wait, decide
from adinsights_orchestration.transformation.run_results import SUCCESS
from adinsights_orchestration.unattended import declared, schedule_status, sensor_status

BUILD_TAG = {"adinsights/dbt": "build"}
_LOOK_EVERY_SECONDS = 60
# A started run takes the build lock within this time; one that has not by then is dead.
_BOOT = timedelta(minutes=3)
_WAITING = (dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING)


def build_automation(
    settings: Settings, store: OpsStore, project: Project, assets: dg.AssetsDefinition, *, clock: Clock = utc_now
) -> dg.Definitions:
    """Returns the jobs, the sensor and the schedule that this environment declares."""
    jobs: list[dg.JobDefinition | AssetJob] = []
    sensors, schedules = [], []
    refresh = declared(settings, Automation.DBT_REFRESH)
    if refresh is not None:
        job = _job(Automation.DBT_REFRESH.value, assets, "Builds what is downstream of providers with new data.")
        jobs.append(job)
        sensors.append(
            _refresh_sensor(settings, _Refresh(settings, store, project, _interval(refresh), clock), job, refresh)
        )
    nightly = declared(settings, Automation.DBT_NIGHTLY)
    if nightly is not None:
        job = _job(
            Automation.DBT_NIGHTLY.value,
            assets,
            "Builds every model, snapshot and seed and runs every test; never with a full refresh.",
        )
        jobs.append(job)
        schedules.append(_nightly_schedule(settings, job, nightly))
    return dg.Definitions(jobs=jobs, sensors=sensors, schedules=schedules)


@dataclass(frozen=True)
class _Refresh:
    """One look of the sensor."""

    settings: Settings
    store: OpsStore
    project: Project
    interval: timedelta
    clock: Clock

    def look(self, instance: dg.DagsterInstance, last: Attempt | None) -> Start | Wait:
        """Reads both states and decides."""
        newest = newest_states(instance, self.store, self._providers())
        covered = coverage(self.store)
        now = self.clock()
        building = newest != covered and _is_building(instance, self.store, now)
        return decide(newest, covered, last, building=building, now=now, interval=self.interval)

    def selection(self, providers: Iterable[Provider]) -> tuple[list[dg.AssetKey], list[dg.AssetCheckKey]]:
        """What is downstream of the providers, and whatever else is not there though others may stand on it.

        With their tests, but for those that read whole tables: the nightly build runs them.
        """
        project = self.project
        nodes = project.downstream_of(providers) | self._lacking()
        keys = {unique_id: dg.AssetKey(project.key_path(unique_id)) for unique_id in sorted(nodes)}
        tests = sorted(project.tests_of(nodes) - project.nightly_tests)
        checks = [dg.AssetCheckKey(keys[project.checked_nodes[t]], project.tests[t]["name"]) for t in tests]
        return list(keys.values()), checks

    def _lacking(self) -> set[str]:
        """Nodes without any result, and failed ones of no provider (seeds): no new data of theirs calls for them."""
        statuses, providers = node_statuses(self.store), self.project.upstream_providers
        return {n for n in providers if n not in statuses or (statuses[n] != SUCCESS and not providers[n])}

    def publish(self) -> bool:
        """Brings the published results up to date."""
        return publish(self.store, self.settings.dbt.run_results_path, self.project.nodes.keys())

    def _providers(self) -> list[Provider]:
        return [provider for provider in self.settings.dbt.enabled_providers if provider in self.project.providers]


def _refresh_sensor(
    settings: Settings, refresh: _Refresh, job: AssetJob, unattended: Unattended
) -> dg.SensorDefinition:
    @dg.sensor(
        name=Automation.DBT_REFRESH.value,
        job=job,
        minimum_interval_seconds=min(_LOOK_EVERY_SECONDS, int(refresh.interval.total_seconds())),
        default_status=sensor_status(settings, unattended),
        description=(
            "Builds what is downstream of providers whose raw data is newer than the marts, at most every"
            f" {int(refresh.interval.total_seconds())} s. Stopped, the dashboards stand still until the nightly build."
        ),
    )
    @correlated
    def dbt_refresh(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        try:
            refresh.publish()
        except PublishError as error:
            context.log.warning(str(error))
        decision = refresh.look(context.instance, _attempt_from(context.cursor))
        if isinstance(decision, Wait):
            return dg.SkipReason(decision.reason)
        return dg.SensorResult(run_requests=[_run_request(refresh, decision)], cursor=_attempt_to(decision.attempt))

    return dbt_refresh


def _run_request(refresh: _Refresh, start: Start) -> dg.RunRequest:
    assets, checks = refresh.selection(start.providers)
    return dg.RunRequest(
        run_key=f"{Automation.DBT_REFRESH}:{start.attempt.requested_at.isoformat()}",
        asset_selection=assets,
        asset_check_keys=checks,
        tags={
            "adinsights/providers": ",".join(start.providers),
            "adinsights/attempt": str(start.attempt.number),
            **correlation_tags(),
        },
    )


def _job(name: str, assets: dg.AssetsDefinition, description: str) -> AssetJob:
    return dg.define_asset_job(
        name=name,
        selection=dg.AssetSelection.assets(assets),
        description=description,
        # The instance's limit of four hours ends one that hangs, and leaves time to wait for a full refresh before it.
        tags={**BUILD_TAG, "adinsights/kind": "dbt"},
        # One op: a process of its own for it would only start Python and import everything once more.
        executor_def=dg.in_process_executor,
    )


def _nightly_schedule(settings: Settings, job: AssetJob, unattended: Unattended) -> dg.ScheduleDefinition:
    assert unattended.cron is not None
    return dg.ScheduleDefinition(
        name=Automation.DBT_NIGHTLY.schedule,
        job=job,
        cron_schedule=unattended.cron,
        execution_timezone=settings.home_timezone,
        default_status=schedule_status(settings, unattended),
        description="Every model, snapshot and seed, every night, before people come to work.",
    )


def _interval(unattended: Unattended) -> timedelta:
    assert unattended.every_seconds is not None
    return timedelta(seconds=unattended.every_seconds)


def _is_building(instance: dg.DagsterInstance, store: OpsStore, now: datetime) -> bool:
    """Whether a build is queued, starting or at work.

    A run that says it is started is believed only while it boots; after that the lock tells. The run of a worker that
    was killed says so until `dead_runs` has found it.
    """
    if is_building(store):
        return True
    booting = dg.RunsFilter(
        tags=BUILD_TAG, statuses=[*_WAITING, dg.DagsterRunStatus.STARTED], updated_after=now - _BOOT
    )
    queued = dg.RunsFilter(tags=BUILD_TAG, statuses=[dg.DagsterRunStatus.QUEUED])
    return instance.get_runs_count(booting) + instance.get_runs_count(queued) > 0


def _attempt_to(attempt: Attempt) -> str:
    return json.dumps(
        {
            "requested_at": attempt.requested_at.isoformat(),
            "newest": {str(provider): storage_id for provider, storage_id in attempt.newest.items()},
            "number": attempt.number,
        }
    )


def _attempt_from(cursor: str | None) -> Attempt | None:
    if not cursor:
        return None
    content = json.loads(cursor)
    newest = {Provider(name): int(storage_id) for name, storage_id in content["newest"].items()}
    return Attempt(datetime.fromisoformat(content["requested_at"]), newest, int(content["number"]))
