"""Evaluating in this process, and saying at once what an evaluation found.

Belongs here: what `alert_evaluate`, the job and those who bring news share: one evaluation at a time, what the process
remembers of it, and a delivery right behind it. Does not belong here: how an evaluation works (`evaluate`), how a
message is delivered (`deliver`). Freshness and health know first that something changed; were they only to write it
down, a fact would wait for one sensor after another.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from datetime import datetime, timedelta

import dagster as dg
import sqlalchemy as sa

from adinsights_orchestration.alerting.bookkeeping import outbox
from adinsights_orchestration.alerting.channels.sinks import Sinks
from adinsights_orchestration.alerting.configuration.alert_file import load_alerts
from adinsights_orchestration.alerting.delivery import deliver
from adinsights_orchestration.alerting.delivery.deliver import Delivered
from adinsights_orchestration.alerting.delivery.opening import build_sinks, policies_of
from adinsights_orchestration.alerting.evaluation import evaluate
from adinsights_orchestration.alerting.evaluation.evaluate import Evaluation, Memory, Policies
from adinsights_orchestration.alerting.facts import Facts
from adinsights_orchestration.alerting.gathering import automations, dagster_events, disks, marks, reading
from adinsights_orchestration.alerting.gathering.automations import Expected, Watch
from adinsights_orchestration.alerting.gathering.dagster_events import JobsSeen
from adinsights_orchestration.alerting.gathering.reading import Beside
from adinsights_orchestration.alerting.gathering.standing import Standing
from adinsights_orchestration.alerting.matching import Routes
from adinsights_orchestration.alerting.rules.catalog import INHIBITIONS, RULES
from adinsights_orchestration.alerting.running import pulse
from adinsights_orchestration.alerting.telling.grouping import Options
from adinsights_orchestration.clock import Clock, TickClock, utc_now
from adinsights_orchestration.dagster_internals.automations import automations as automations_kept
from adinsights_orchestration.environments import UNATTENDED, Automation, Unattended
from adinsights_orchestration.freshness.sla import SlaTable, load_sla
from adinsights_orchestration.logs import get_logger
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.topology.store import load_topology
from adinsights_orchestration.unattended import declared, sensor_status

# Of a minute that a tick has: a call that hangs may be begun within its first seconds, and what is left is delivered by
# `alert_deliver`, which also says everything that was not taken the first time.
AT_ONCE_SECONDS = 30.0
_WAITS_SECONDS = 10.0  # for another evaluation to end
_PAUSE_SECONDS = 0.1
_log = get_logger(__name__)


class Alerter:
    """Evaluates and says at once; safe to call from several threads.

    Args:
        settings: The settings of this process.
        store: The ops store.
        sla: The levels.
        policies: What is judged and how it is told.
        sinks: Where messages go.
        clock: The clock.
    """

    def __init__(
        self,
        settings: Settings,
        store: OpsStore,
        sla: SlaTable,
        policies: Policies,
        sinks: Sinks,
        clock: Clock = utc_now,
    ) -> None:
        self._settings, self._store, self._sla, self._policies = settings, store, sla, policies
        self.sinks, self._clock = sinks, clock
        self._standing, self._one_at_a_time = Standing(), threading.Lock()

    def evaluate(self, instance: dg.DagsterInstance) -> Evaluation:
        """Evaluates once; waits for a thread that is at it, and is skipped while another process is.

        Raises:
            OpsStoreError: The ops store does not answer; nothing has happened.
        """
        if not self._one_at_a_time.acquire(timeout=_WAITS_SECONDS):
            return Evaluation(skipped="another evaluation is at work")
        try:
            return evaluate_once(
                self._settings, self._store, self._sla, self._policies, self._clock(), instance, self._standing
            )
        finally:
            self._one_at_a_time.release()

    def evaluate_in_turn(self, instance: dg.DagsterInstance, waits_seconds: float = _WAITS_SECONDS) -> Evaluation:
        """As `evaluate`, but waits for another process too."""
        until = time.monotonic() + waits_seconds
        while (done := self.evaluate(instance)).skipped and time.monotonic() < until:
            time.sleep(_PAUSE_SECONDS)
        return done

    def say(self, instance: dg.DagsterInstance) -> Delivered:
        """Delivers what was just put into the outbox, to channels that owe nothing else.

        A channel that did not take its last message is left to `alert_deliver`: a slow one would hold up whoever calls.
        Where a person has switched that sensor off, nothing is sent.

        Raises:
            OpsStoreError: The ops store does not answer; what was claimed is looked up later.
        """
        if Automation.ALERT_DELIVER not in self._running(instance):
            return Delivered()
        clock = TickClock(self._clock(), AT_ONCE_SECONDS)
        with self._store.begin() as connection:
            prompt = outbox.prompt_sinks(connection, self.sinks.by_name)
        done = deliver.run(self._store, self.sinks, clock, only=prompt)
        while not done.left and self._some_is_soon(prompt, clock):
            time.sleep(_PAUSE_SECONDS)
            more = deliver.run(self._store, self.sinks, clock, only=prompt)
            done.counts.update(more.counts)
            done.left = more.left
        return done

    def is_delivered(self) -> bool:
        """Whether what is said is delivered too: `alert_deliver` came to its end lately, where it runs at all.

        Raises:
            OpsStoreError: The ops store does not answer.
        """
        found = pulse.pulses(self._store, self._settings, self._sla, self._clock())
        return all(one.alive for one in found if one.sensor == Automation.ALERT_DELIVER.value)

    def _some_is_soon(self, sinks: Collection[str], clock: TickClock) -> bool:
        """Whether a channel takes something before it is too late to begin: allowances come by the second."""
        longest = max((2 * self.sinks.by_name[name].traits.deadline_seconds for name in sinks), default=0.0)
        if not sinks or clock.left() < longest:
            return False
        with self._store.begin() as connection:
            return outbox.is_due_by(connection, sinks, clock.now() + timedelta(seconds=clock.left() - longest))

    def _running(self, instance: dg.DagsterInstance) -> Collection[Automation]:
        """Which of the two sensors run here, as far as persons let them."""
        kept = automations_kept(instance)
        found = set[Automation]()
        for one in (Automation.ALERT_EVALUATE, Automation.ALERT_DELIVER):
            unattended = declared(self._settings, one)
            if unattended is None:
                continue
            by_default = sensor_status(self._settings, unattended) is dg.DefaultSensorStatus.RUNNING
            if not kept[one].stopped if one in kept else by_default:
                found.add(one)
        return found

    def on_news(self, instance: dg.DagsterInstance) -> None:
        """Evaluates and says at once, for whoever knows that something changed; never raises.

        Does nothing where a person has switched `alert_evaluate` off. What fails here fails visibly at its next tick.
        """
        try:
            if Automation.ALERT_EVALUATE in self._running(instance) and self.evaluate_in_turn(instance).orders:
                self.say(instance)
        except Exception as error:  # noqa: BLE001  (the caller's own work is done, and must not fail for this)
            _log.warning("alerts not evaluated at once", error=type(error).__name__, reason=str(error)[:300])


def build_alerter(
    settings: Settings, store: OpsStore, *, sinks: Sinks | None = None, clock: Clock = utc_now
) -> Alerter:
    """Builds what evaluates in this process.

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
    policies = policies_of(config, channels) if sinks is None else default_policies(channels)
    return Alerter(settings, store, sla, policies, channels, clock)


def default_policies(sinks: Sinks) -> Policies:
    """What is judged, and how it is told, where nothing else is configured."""
    options = Options(Routes(sinks.default), inhibitions=INHIBITIONS, sinks=frozenset(sinks.by_name))
    return Policies(RULES, options)


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
        jobs, watch = JobsSeen.from_json(memory.get("jobs")), Watch.from_json(memory.get("automations"))
        seen = marks.read(connection, at)
        if standing.topology is None or standing.topology[0] != seen.topology:
            standing.topology = (seen.topology, load_topology(connection).topology)
        topology = standing.topology[1]
        events, jobs = dagster_events.read(instance, topology, jobs, at, standing.log)
        events, watch = automations.add(events, instance, expected, watch, at, standing.automations)
        beside = Beside(events, topology, held, disks.read(disks.folders(settings)))
        facts = reading.read(store, connection, settings, sla, at, beside, standing, seen)
        return facts, {"jobs": jobs.to_json(), "automations": watch.to_json()}

    return evaluate.run(store, read, policies, now, standing)


def expected_automations(settings: Settings) -> dict[str, Expected]:
    """What runs by itself here, by its name in Dagster; the evaluation cannot miss itself."""
    return {
        automation.value if one.cron is None else automation.schedule: _expected(one, settings)
        for automation, one in UNATTENDED[settings.environment].items()
        if (settings.local_stack or not one.stack_only) and automation is not Automation.ALERT_EVALUATE
    }


def _expected(one: Unattended, settings: Settings) -> Expected:
    if one.cron is not None:
        return Expected(cron=one.cron, timezone=settings.home_timezone)
    return Expected(every=timedelta(seconds=one.every_seconds or 0))
