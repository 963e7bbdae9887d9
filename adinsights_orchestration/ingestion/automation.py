"""Ingestion in Dagster: the sensors that trigger, observe and reconcile.

Belongs here: ticks, and a line about each for the UI. Does not belong here: the work of a tick (`trigger`, `observe`,
`reporting`, `webhook`), the jobs (`assets`, `repair_jobs`, `night_job`). No tick starts a Dagster run: a run costs ten
seconds of process start, a tick none.
"""

from __future__ import annotations

import asyncio

import dagster as dg
import httpx

from adinsights_orchestration import tls
from adinsights_orchestration.backend import audit
from adinsights_orchestration.backend.audit import DeliveryReport
from adinsights_orchestration.clock import TickClock, utc_now
from adinsights_orchestration.environments import UNATTENDED, Automation
from adinsights_orchestration.ingestion import observe, trigger, webhook
from adinsights_orchestration.ingestion.absorb import MOST_UNKNOWN
from adinsights_orchestration.ingestion.airbyte_api import api_factory
from adinsights_orchestration.ingestion.assets import MakeDeps, build_provider_assets, build_sync_job
from adinsights_orchestration.ingestion.deps import Deps, sync_bound
from adinsights_orchestration.ingestion.night_job import build_night
from adinsights_orchestration.ingestion.observe import ObserveReport
from adinsights_orchestration.ingestion.repair_jobs import build_repair_jobs
from adinsights_orchestration.ingestion.reporting import Reported, report_tick
from adinsights_orchestration.ingestion.specs import airbyte_workspace
from adinsights_orchestration.ingestion.trigger import TriggerReport
from adinsights_orchestration.ingestion.webhook_outcomes import WebhookReport
from adinsights_orchestration.logs import correlated, get_logger, timed
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.tenants.store import load_registry
from adinsights_orchestration.unattended import Quietly, as_ever, declared, sensor_status

_TAGS = {"adinsights/kind": "ingestion"}
# Of the backend's tick: a backend that is slow with audit rows still hears of finished jobs.
_AUDIT_SHARE = 0.4
_OBSERVE_SHARE = 0.75  # the rest is for telling Dagster, which a slow Airbyte must not leave without time
_log = get_logger(__name__)


def build_ingestion(settings: Settings, store: OpsStore, *, quietly: Quietly = as_ever) -> dg.Definitions:
    """Builds the provider assets, their jobs, and what this environment runs unattended."""
    make_deps = deps_maker(settings, store)
    sensors = [
        _trigger(settings, make_deps),
        _start(settings, make_deps),
        _observe(settings, make_deps),
        _backend(settings, store),
    ]
    definitions = dg.Definitions(
        assets=build_provider_assets(settings, make_deps),
        jobs=[build_sync_job(make_deps), *build_repair_jobs(make_deps, quietly)],
        sensors=[sensor for sensor in sensors if sensor is not None],
        resources={"airbyte": airbyte_workspace(settings)},
    )
    return dg.Definitions.merge(definitions, build_night(settings, make_deps))


def deps_maker(settings: Settings, store: OpsStore) -> MakeDeps:
    """Returns what gives each tick and each run its engine, with the registry as it is then."""
    make_api = api_factory(settings.airbyte)
    bound = sync_bound(settings, _at_once(settings))
    return lambda: Deps(settings, store, make_api, load_registry(store), bound)


def _at_once(settings: Settings) -> int:
    """How many syncs the environment runs at once, a person's included."""
    table = UNATTENDED[settings.environment]
    starting = [table[name] for name in (Automation.TRIGGER, Automation.START) if name in table]
    return max(unattended.at_once or 1 for unattended in starting)


def _trigger(settings: Settings, make_deps: MakeDeps) -> dg.SensorDefinition | None:
    unattended = declared(settings, Automation.TRIGGER)
    if unattended is None:
        return None

    @dg.sensor(
        name=Automation.TRIGGER.value,
        minimum_interval_seconds=unattended.every_seconds,
        default_status=sensor_status(settings, unattended),
        description="Starts the syncs that are due. When it does not tick, connections grow stale unless somebody else "
        "drives them.",
        tags=_TAGS,
    )
    @correlated
    def ingestion_trigger() -> dg.SkipReason:
        return dg.SkipReason(_trigger_tick(Automation.TRIGGER, make_deps(), own_slots=True))

    return ingestion_trigger


def _start(settings: Settings, make_deps: MakeDeps) -> dg.SensorDefinition | None:
    unattended = declared(settings, Automation.START)
    if unattended is None:
        return None

    @dg.sensor(
        name=Automation.START.value,
        minimum_interval_seconds=unattended.every_seconds,
        default_status=sensor_status(settings, unattended),
        description="Starts the syncs that the night planned, and tries again those that failed; plans none itself. "
        "When it does not tick, the night's syncs wait.",
        tags=_TAGS,
    )
    @correlated
    def ingestion_start() -> dg.SkipReason:
        return dg.SkipReason(_trigger_tick(Automation.START, make_deps(), own_slots=False))

    return ingestion_start


def _trigger_tick(automation: Automation, deps: Deps, *, own_slots: bool) -> str:
    with timed(_log, "trigger tick") as line:
        report = asyncio.run(trigger.tick(deps, utc_now(), own_slots=own_slots))
        line |= {"summary": trigger_summary(report), "requests": report.requests}
    _warn(automation, report.starts.stopped or report.starts.problem)
    return trigger_summary(report)


def _observe(settings: Settings, make_deps: MakeDeps) -> dg.SensorDefinition | None:
    unattended = declared(settings, Automation.OBSERVE)
    if unattended is None:
        return None

    @dg.sensor(
        name=Automation.OBSERVE.value,
        minimum_interval_seconds=unattended.every_seconds,
        default_status=sensor_status(settings, unattended),
        description="Takes in what Airbyte finished, whoever started it, and reports it to Dagster. "
        "When it does not tick, everything looks older than it is.",
        tags=_TAGS,
    )
    @correlated
    def ingestion_observe(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        return dg.SkipReason(_observe_tick(context.instance, make_deps()))

    return ingestion_observe


def _observe_tick(instance: dg.DagsterInstance, deps: Deps) -> str:
    """Reading and telling share one budget: the daemon gives up on a tick that takes longer than a minute."""
    clock = TickClock(utc_now(), deps.settings.ingestion.tick_budget_seconds)
    with timed(_log, "observe tick") as line:
        report = asyncio.run(observe.tick(deps, clock.start, budget_seconds=_OBSERVE_SHARE * clock.budget_seconds))
        line |= {"finished": report.absorbed.finished, "requests": report.requests}
        line["forgotten_connections"] = len(report.absorbed.forgotten)
    _warn(Automation.OBSERVE, report.problem)
    return observe_summary(report, report_tick(instance, deps, clock.now(), clock=clock))


def _backend(settings: Settings, store: OpsStore) -> dg.SensorDefinition | None:
    unattended = declared(settings, Automation.BACKEND)
    if unattended is None:
        return None

    @dg.sensor(
        name=Automation.BACKEND.value,
        minimum_interval_seconds=unattended.every_seconds,
        default_status=sensor_status(settings, unattended),
        description="Gives the backend what it is owed: audit rows, and finished jobs whose webhook it missed. When it "
        "does not tick, they wait in the ops store.",
        tags=_TAGS,
    )
    @correlated
    def backend_deliver() -> dg.SkipReason:
        clock = TickClock(utc_now(), settings.ingestion.tick_budget_seconds)
        with timed(_log, "backend tick") as line:
            delivery = audit.deliver(settings, store, clock.part(_AUDIT_SHARE))
            with httpx.Client(verify=tls.verifying()) as client:
                posts = webhook.reconcile(settings, store, client, clock)
            line["summary"] = backend_summary(delivery, posts)
        _warn(Automation.BACKEND, delivery.error)
        _warn(Automation.BACKEND, posts.error)
        return dg.SkipReason(backend_summary(delivery, posts))

    return backend_deliver


def _warn(automation: Automation, problem: str | None) -> None:
    """Puts a tick's problem into the log: what only the UI shows is gone after two days."""
    if problem:
        _log.warning("a tick could not do all of its work", automation=automation.value, problem=problem)


def trigger_summary(report: TriggerReport) -> str:
    """One line for the sensor's tick."""
    if report.skipped:
        return report.skipped
    starts = report.starts
    counts = {
        "due": report.planned,
        "started": starts.started,
        "already running": starts.followed,
        "done by others": report.satisfied,
        "postponed": starts.postponed,
        "given up": starts.given_up,
        "not answered": starts.unanswered,
        "left for the next tick": starts.unsent,
        "waiting for a place": report.waiting,
    }
    problems = "; ".join(part for part in (report.held, starts.stopped or starts.problem) if part)
    return _line(counts, problems, idle="nothing is due")


def observe_summary(report: ObserveReport, reported: Reported) -> str:
    """One line for the sensor's tick."""
    counts = {
        "finished": report.absorbed.finished,
        "running": report.absorbed.running,
        "adopted": report.absorbed.adopted,
        "to be tried again": report.absorbed.retried,
        "of unknown connections": report.absorbed.unknown,
        "vanished": report.settled.vanished,
        "reported": reported.materialized,
        "reported as failed": reported.failed,
        "recovered": reported.recovered,
    }
    rest = "the next tick reports the rest" if reported.cut_short else ""
    problems = [report.skipped or report.problem, _forgotten(report), rest]
    return _line(counts, "; ".join(part for part in problems if part), idle="nothing new in Airbyte")


def _forgotten(report: ObserveReport) -> str:
    """What is said of unknown connections beyond those that are kept in mind."""
    many = len(report.absorbed.forgotten)
    if not many:
        return ""
    return (
        f"{many} more unknown connections than the {MOST_UNKNOWN} that are kept in mind: if the registry comes to know"
        " one, its syncs until then are missing here. If they are other people's, name our workspaces in"
        " ADINSIGHTS_AIRBYTE__WORKSPACE_IDS"
    )


def backend_summary(delivery: DeliveryReport, posts: WebhookReport) -> str:
    """One line for the sensor's tick."""
    counts = {
        "audit rows delivered": delivery.delivered,
        "audit rows refused": delivery.refused,
        "audit rows owed": delivery.owed,
        "jobs posted": posts.posted,
        "posts put off": posts.put_off,
        "posts failed": posts.failed,
    }
    problems = dict.fromkeys(error for error in (delivery.error, posts.error) if error)
    return _line(counts, "; ".join(problems), idle="nothing is owed")


def _line(counts: dict[str, int], problem: str, *, idle: str) -> str:
    parts = [f"{count} {name}" for name, count in counts.items() if count]
    line = ", ".join(parts) or ("" if problem else idle)
    return "; ".join(part for part in (line, problem) if part)
