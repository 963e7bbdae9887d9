"""Alerting in Dagster: the sensor that evaluates, the sensor that delivers, and the job that does both at once.

Belongs here: ticks and a line about each. Does not belong here: their work (`evaluate`, `deliver`).
"""

# No postponed annotations: Dagster reads the type of a sensor's context.
import time
from datetime import datetime

import dagster as dg
import sqlalchemy as sa

from adinsights_orchestration.alerting import dagster_events, deliver, disks, evaluate, marks, reading, rows
from adinsights_orchestration.alerting.backend_rules import run_backend_rules
from adinsights_orchestration.alerting.channels import build_sinks, policies_of
from adinsights_orchestration.alerting.configuration import load_alerts
from adinsights_orchestration.alerting.dagster_events import JobsSeen
from adinsights_orchestration.alerting.deliver import Delivered
from adinsights_orchestration.alerting.evaluate import Evaluation, Memory, Policies
from adinsights_orchestration.alerting.facts import Facts
from adinsights_orchestration.alerting.grouping import Options
from adinsights_orchestration.alerting.matching import Routes
from adinsights_orchestration.alerting.ping import DeadMansPing
from adinsights_orchestration.alerting.reading import Beside
from adinsights_orchestration.alerting.rows import Event
from adinsights_orchestration.alerting.rules.catalog import INHIBITIONS, RULES
from adinsights_orchestration.alerting.sinks import Sinks
from adinsights_orchestration.alerting.slack_acks import acknowledgements
from adinsights_orchestration.alerting.standing import Standing
from adinsights_orchestration.clock import Clock, TickClock, utc_now
from adinsights_orchestration.environments import UNATTENDED, Automation
from adinsights_orchestration.freshness.sla import SlaTable, load_sla
from adinsights_orchestration.logs import get_logger, timed
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.topology.store import load_topology
from adinsights_orchestration.unattended import declared, sensor_status

BUDGET_SECONDS = 40.0  # a sensor has a minute
JOB = "run_alert_evaluation"
_TRIES, _PAUSE_SECONDS = 20, 1.0  # while the sensor's own evaluation is at work
_log = get_logger(__name__)


def build_alerting(
    settings: Settings, store: OpsStore, *, sinks: Sinks | None = None, clock: Clock = utc_now
) -> dg.Definitions:
    """Builds the job, and the two sensors where this environment declares them.

    Args:
        settings: The settings of this process.
        store: The ops store.
        sinks: Where all messages go, whatever the alert file says; the channels that it names when None.
        clock: The clock.

    Raises:
        ConfigurationError: The SLA table or the alert file is wrong.
    """
    sla = load_sla(settings.environment, settings.freshness.sla_path)
    config = load_alerts(settings.alerting.alerts_path, settings.home_timezone)
    channels = sinks or build_sinks(settings, config)
    told_by = policies_of(config, channels) if sinks is None else default_policies(channels)
    sensors = [_evaluating(settings, store, sla, told_by, clock), _delivering(settings, store, channels, clock)]
    job = _job(settings, store, sla, told_by, channels, clock)
    return dg.Definitions(jobs=[job], sensors=[sensor for sensor in sensors if sensor is not None])


def default_policies(sinks: Sinks) -> Policies:
    """What is judged, and how it is told, where nothing else is configured."""
    return Policies(RULES, Options(Routes(sinks.default), inhibitions=INHIBITIONS))


def evaluate_once(
    settings: Settings,
    store: OpsStore,
    sla: SlaTable,
    policies: Policies,
    now: datetime,
    instance: dg.DagsterInstance,
    standing: Standing | None = None,
) -> Evaluation:
    """One evaluation of everything; with what the process knows of the last one it costs what changed."""
    standing = standing or Standing()
    expected = expected_automations(settings)

    def read(connection: sa.Connection, at: datetime, memory: Memory) -> tuple[Facts, Memory]:
        held = [str(title) for title in memory.get("held", ())]
        jobs = JobsSeen.from_json(memory.get("jobs"))
        seen = marks.read(connection, at)
        if standing.topology is None or standing.topology[0] != seen.topology:
            standing.topology = (seen.topology, load_topology(connection).topology)
        topology = standing.topology[1]
        events, jobs = dagster_events.read(instance, topology, expected, jobs, at, standing.log)
        beside = Beside(events, topology, held, disks.read(disks.folders(settings)))
        facts = reading.read(store, connection, settings, sla, at, beside, standing, seen)
        return facts, {"jobs": jobs.to_json()}

    return evaluate.run(store, read, policies, now, standing)


def expected_automations(settings: Settings) -> dict[str, float | None]:
    """What runs by itself here, with a sensor's interval in seconds; the evaluation cannot miss itself."""
    return {
        automation.value: one.every_seconds if one.cron is None else None
        for automation, one in UNATTENDED[settings.environment].items()
        if (settings.local_stack or not one.stack_only) and automation is not Automation.ALERT_EVALUATE
    }


def _evaluating(
    settings: Settings, store: OpsStore, sla: SlaTable, policies: Policies, clock: Clock
) -> dg.SensorDefinition | None:
    unattended = declared(settings, Automation.ALERT_EVALUATE)
    if unattended is None:
        return None
    url = settings.alerting.ping_url
    standing = Standing()
    ping = DeadMansPing(url.get_secret_value(), settings.alerting.ping_timeout_seconds) if url else None

    @dg.sensor(
        name=Automation.ALERT_EVALUATE.value,
        minimum_interval_seconds=unattended.every_seconds,
        default_status=sensor_status(settings, unattended),
        description="Finds out what is wrong and what is to be said about it. When it does not tick, nobody is told of "
        "anything new, and nothing is resolved.",
        tags={"adinsights/kind": "alerting"},
    )
    def alert_evaluate(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        with timed(_log, "alert evaluation") as line:
            done = evaluate_once(settings, store, sla, policies, clock(), context.instance, standing)
            line |= {"firing": done.firing, "orders": done.orders, "changes": dict(done.changes)}
        if ping is not None:
            ping.send()  # only an evaluation that came to its end is a sign of life
        return dg.SkipReason(summary(done))

    return alert_evaluate


def _job(
    settings: Settings, store: OpsStore, sla: SlaTable, policies: Policies, sinks: Sinks, clock: Clock
) -> dg.JobDefinition:
    @dg.op(
        name="evaluate_and_deliver",
        description="Evaluates all rules, sends what there is to say, and has the backend evaluate its own.",
    )
    def evaluate_and_deliver(context: dg.OpExecutionContext) -> None:
        done = evaluate_once(settings, store, sla, policies, clock(), context.instance)
        for _ in range(_TRIES):
            if not done.skipped:
                break
            time.sleep(_PAUSE_SECONDS)
            done = evaluate_once(settings, store, sla, policies, clock(), context.instance)
        if done.skipped:
            raise dg.Failure(f"{done.skipped}, for {_TRIES * _PAUSE_SECONDS:.0f} s: see the ticks of alert_evaluate")
        delivered = deliver.run(store, sinks, TickClock(clock(), BUDGET_SECONDS))
        backend = run_backend_rules(settings)
        (context.log.warning if backend.asked and not backend.done else context.log.info)(backend.said)
        with store.begin() as connection:
            rows.note(connection, [Event(clock(), "evaluated_by_hand", backend.said)])
        context.add_output_metadata({"evaluation": summary(done), "delivery": told(delivered), "backend": backend.said})

    @dg.job(
        name=JOB,
        description="Evaluates alerts now and sends what there is to say, without waiting for a tick; also calls the"
        " backend's `POST /alerts/run`. For after a remediation. A backend that does not answer is reported and fails"
        " nothing.",
        tags={"adinsights/kind": "alerting"},
        executor_def=dg.in_process_executor,
    )
    def run_alert_evaluation() -> None:
        evaluate_and_deliver()

    return run_alert_evaluation


def _delivering(settings: Settings, store: OpsStore, sinks: Sinks, clock: Clock) -> dg.SensorDefinition | None:
    unattended = declared(settings, Automation.ALERT_DELIVER)
    if unattended is None:
        return None

    acks = acknowledgements(settings)

    @dg.sensor(
        name=Automation.ALERT_DELIVER.value,
        minimum_interval_seconds=unattended.every_seconds,
        default_status=sensor_status(settings, unattended),
        description="Sends what alerts have to say. When it does not tick, messages wait and nobody is told.",
        tags={"adinsights/kind": "alerting"},
    )
    def alert_deliver(context: dg.SensorEvaluationContext) -> dg.SkipReason:  # noqa: ARG001  (Dagster hands it over)
        with timed(_log, "alert delivery") as line:
            tick = TickClock(clock(), BUDGET_SECONDS)
            done = deliver.run(store, sinks, tick)
            taken_on = acks.collect(store, tick) if acks is not None else 0
            line |= {**done.counts, "acknowledged": taken_on}
        return dg.SkipReason(told(done) + (f", {taken_on} acknowledged in Slack" if taken_on else ""))

    return alert_deliver


def summary(done: Evaluation) -> str:
    """One line for the evaluation's tick."""
    if done.skipped:
        return done.skipped
    parts = [f"{count} {change.replace('_', ' ')}" for change, count in sorted(done.changes.items())]
    if done.held:
        parts.append(f"{done.held} held back by a storm")
    return f"{done.firing} firing" + (f": {', '.join(parts)}" if parts else ", nothing changed")


def told(done: Delivered) -> str:
    """One line for the delivery's tick."""
    parts = [f"{count} {kind.replace('_', ' ')}" for kind, count in sorted(done.counts.items())]
    return ", ".join([*parts, *(["more to come"] if done.left else [])]) or "nothing to say"
