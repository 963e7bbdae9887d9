"""Alerting in Dagster: the sensor that evaluates, the sensor that delivers, and the job that does both at once.

Belongs here: ticks and a line about each. Does not belong here: their work (`evaluate`, `deliver`).
"""

# No postponed annotations: Dagster reads the type of a sensor's context.
import dagster as dg

from adinsights_orchestration.alerting.bookkeeping import rows
from adinsights_orchestration.alerting.bookkeeping.rows import Event
from adinsights_orchestration.alerting.delivery import deliver
from adinsights_orchestration.alerting.delivery.deliver import Delivered
from adinsights_orchestration.alerting.evaluation.evaluate import Evaluation
from adinsights_orchestration.alerting.running.alerter import Alerter
from adinsights_orchestration.clock import Clock, TickClock, utc_now
from adinsights_orchestration.environments import Automation
from adinsights_orchestration.logs import correlated, get_logger, timed
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.unattended import declared, sensor_status

BUDGET_SECONDS = 40.0  # a sensor has a minute
JOB = "run_alert_evaluation"
_WAITS_SECONDS = 20.0  # while the sensor's own evaluation is at work
_log = get_logger(__name__)


def build_alerting(settings: Settings, store: OpsStore, alerter: Alerter, *, clock: Clock = utc_now) -> dg.Definitions:
    """Builds the job, and the two sensors where this environment declares them.

    Args:
        settings: The settings of this process.
        store: The ops store.
        alerter: Evaluates.
        clock: The clock.
    """
    sensors = [_evaluating(settings, alerter), _delivering(settings, store, alerter, clock)]
    job = _job(settings, store, alerter, clock)
    return dg.Definitions(jobs=[job], sensors=[sensor for sensor in sensors if sensor is not None])


def _evaluating(settings: Settings, alerter: Alerter) -> dg.SensorDefinition | None:
    unattended = declared(settings, Automation.ALERT_EVALUATE)
    if unattended is None:
        return None
    url = settings.alerting.ping_url
    ping = None
    if url is not None:
        from adinsights_orchestration.alerting.running.ping import DeadMansPing  # with a client for HTTP

        ping = DeadMansPing(url.get_secret_value(), settings.alerting.ping_timeout_seconds)

    @dg.sensor(
        name=Automation.ALERT_EVALUATE.value,
        minimum_interval_seconds=unattended.every_seconds,
        default_status=sensor_status(settings, unattended),
        description="Finds out what is wrong, and says what is to be said about it. When it does not tick, nobody is "
        "told of anything new, and nothing is resolved.",
        tags={"adinsights/kind": "alerting"},
    )
    @correlated
    def alert_evaluate(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        with timed(_log, "alert evaluation") as line:
            done = alerter.evaluate(context.instance)
            line |= {"firing": done.firing, "orders": done.orders, "changes": dict(done.changes)}
        # Behind an evaluation that hangs every other is skipped for ever, and one that nobody delivers tells nobody:
        # only one that came to its end, and is heard, is a sign of life.
        if ping is not None and not done.skipped and alerter.is_delivered():
            ping.send()
        said = alerter.say(context.instance) if done.orders else None
        return dg.SkipReason(summary(done) + (f"; {told(said)}" if said and said.counts else ""))

    return alert_evaluate


def _job(settings: Settings, store: OpsStore, alerter: Alerter, clock: Clock) -> dg.JobDefinition:
    @dg.op(
        name="evaluate_and_deliver",
        description="Evaluates all rules, sends what there is to say, and has the backend evaluate its own.",
    )
    def evaluate_and_deliver(context: dg.OpExecutionContext) -> None:
        from adinsights_orchestration.alerting.running.backend_rules import run_backend_rules  # with a client for HTTP

        done = alerter.evaluate_in_turn(context.instance, _WAITS_SECONDS)
        if done.skipped:
            raise dg.Failure(f"{done.skipped}, for {_WAITS_SECONDS:.0f} s: see the ticks of alert_evaluate")
        delivered = deliver.run(store, alerter.sinks, TickClock(clock(), BUDGET_SECONDS))
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


def _delivering(settings: Settings, store: OpsStore, alerter: Alerter, clock: Clock) -> dg.SensorDefinition | None:
    unattended = declared(settings, Automation.ALERT_DELIVER)
    if unattended is None:
        return None

    acks = None
    if settings.slack.token is not None:
        from adinsights_orchestration.alerting.operating.slack_acks import (
            acknowledgements,  # who has none need not load its SDK
        )

        acks = acknowledgements(settings)

    @dg.sensor(
        name=Automation.ALERT_DELIVER.value,
        minimum_interval_seconds=unattended.every_seconds,
        default_status=sensor_status(settings, unattended),
        description="Sends what an evaluation could not send at once, and reads acknowledgements. When it does not "
        "tick, what a channel did not take is not sent again; when it is switched off, nothing is sent at all.",
        tags={"adinsights/kind": "alerting"},
    )
    @correlated
    def alert_deliver(context: dg.SensorEvaluationContext) -> dg.SkipReason:  # noqa: ARG001  (Dagster hands it over)
        with timed(_log, "alert delivery") as line:
            tick = TickClock(clock(), BUDGET_SECONDS)
            done = deliver.run(store, alerter.sinks, tick)
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
