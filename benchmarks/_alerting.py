"""What the benchmarks of alerts share: a platform of many tenants in a ledger, its ticks, and a sink that counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import uuid5

import dagster as dg
import sqlalchemy as sa
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteInstigatorOrigin, RemoteRepositoryOrigin
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    ScheduleInstigatorData,
    SensorInstigatorData,
)

from adinsights_orchestration.alerting.channels.sinks import (
    Absent,
    Attempted,
    LookedUp,
    Notice,
    Outcome,
    Sent,
    Sink,
    Sinks,
    Traits,
)
from adinsights_orchestration.alerting.delivery import deliver
from adinsights_orchestration.alerting.evaluation.evaluate import Evaluation
from adinsights_orchestration.alerting.gathering.automations import Expected
from adinsights_orchestration.alerting.gathering.standing import Standing
from adinsights_orchestration.alerting.message import Message
from adinsights_orchestration.alerting.running.alerter import (
    Alerter,
    default_policies,
    evaluate_once,
    expected_automations,
)
from adinsights_orchestration.clock import TickClock
from adinsights_orchestration.environments import Automation, Environment
from adinsights_orchestration.freshness import tick as freshness
from adinsights_orchestration.freshness.automation import BUDGET_SECONDS, evaluate_and_show
from adinsights_orchestration.freshness.sla import load_sla
from adinsights_orchestration.health import states as health
from adinsights_orchestration.health.model import Component, Health, Reading
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.tenants import store as registry_store
from adinsights_orchestration.tenants.model import Connection, Provider, Registry, Schedule, ScheduleType, Tenant
from adinsights_orchestration.topology.model import Asset, Topology
from adinsights_orchestration.topology.store import publish
from benchmarks._machine import NAMESPACE

PRODUCTION = Settings(environment=Environment.PRODUCTION)
SLA = load_sla(Environment.PRODUCTION)
HOURLY = Schedule(ScheduleType.INTERVAL, interval=timedelta(hours=1))
START = datetime(2026, 11, 23, 13, 0, tzinfo=UTC)
CONNECTIONS_OF_A_TENANT = 6
_WATCHED, _EVALUATED_EVERY = expected_automations(PRODUCTION), timedelta(seconds=30)
_HISTORY, JOBS_OF_A_CONNECTION = 10, 100  # so many are there; so far are job ids apart
_KEYS = sa.text("""
insert into adinsights_ops.partition_key (key, provider, row_id, tenant_id, connection_name, first_seen_at)
select c.key, c.provider, c.id, c.tenant, c.key, :seen
from unnest(cast(:ids as uuid[]), cast(:keys as text[]), cast(:providers as text[]), cast(:tenants as uuid[]))
    as c (id, key, provider, tenant)
""")
_JOBS = sa.text("""
insert into adinsights_ops.sync_job (job_id, connection_id, partition_key, provider, tenant_id, job_type, status,
    started_by, started_at, ended_at, duration_seconds, rows_synced, first_observed_at, observed_at, end_observed_at,
    report_state, reported_at)
select c.number * :apart + n, c.id, c.key, c.provider, c.tenant, 'sync', 'succeeded', 'external',
    c.last - n * interval '1 hour' - interval '2 minutes', c.last - n * interval '1 hour', 120, 1000,
    c.last - n * interval '1 hour', c.last - n * interval '1 hour', c.last - n * interval '1 hour',
    'reported', c.last - n * interval '1 hour'
from unnest(cast(:numbers as bigint[]), cast(:ids as uuid[]), cast(:keys as text[]), cast(:providers as text[]),
    cast(:tenants as uuid[]), cast(:lasts as timestamptz[])) as c (number, id, key, provider, tenant, last)
cross join generate_series(0, :history - 1) as n
""")


_CHECKS = tuple(f"test_{number}" for number in range(3))
_MODELS = tuple(Asset(f"marts/model_{number}", checks=_CHECKS) for number in range(38))
_TOPOLOGY = Topology("pipelines", _MODELS)


@dataclass
class CountingSink:
    """A channel that takes everything at once, and keeps what it was asked."""

    name: str = "channel"
    traits: Traits = Traits(every=timedelta(0), burst=10_000)  # noqa: RUF009  (frozen)
    calls: Counter[str] = field(default_factory=Counter)
    messages: list[Message] = field(default_factory=list)

    def post(self, notice: Notice) -> Outcome:
        self.messages.append(notice.message)
        return self._taken("post", notice)

    def update(self, notice: Notice, ref: str) -> Outcome:  # noqa: ARG002
        self.messages.append(notice.message)
        return self._taken("update", notice)

    def reply(self, notice: Notice, root: str) -> Outcome:  # noqa: ARG002
        return self._taken("reply", notice)

    def lookup(self, notice: Notice, attempted: Attempted) -> LookedUp:  # noqa: ARG002
        self.calls["lookup"] += 1
        return Absent()

    def _taken(self, what: str, notice: Notice) -> Outcome:
        self.calls[what] += 1
        return Sent(str(notice.id))


@dataclass
class Platform:
    """So many connections of a sixth as many tenants, of which some turn late at the moment `LATE_AT`.

    Beside them stands what an evaluation looks at as well: 38 models with three checks each and, unless it is alone, a
    component for each probe and every automation that runs by itself, which say before each tick that they looked.
    """

    store: OpsStore
    instance: dg.DagsterInstance
    connections: int
    late: int
    sink: CountingSink = field(default_factory=CountingSink)
    channel: Sink | None = None  # a real one, instead of the one that counts
    alone: bool = False  # no probe and no sensor says that it looks

    LATE_AT = START + timedelta(minutes=20)

    def __post_init__(self) -> None:
        told = self.channel or self.sink
        self.sinks = Sinks({told.name: told}, (told.name,))
        self.policies = default_policies(self.sinks)
        self.begin_anew()

    def begin_anew(self) -> None:
        """As in a process that has just begun."""
        self.standing = Standing()
        self.alerter = Alerter(PRODUCTION, self.store, SLA, self.policies, self.sinks)

    def populate(self) -> None:
        """Writes the registry and a history of syncs."""
        tenants = [
            Tenant(uuid5(NAMESPACE, f"tenant/{number}"), f"Tenant {number}", f"tenant-{number}")
            for number in range(max(self.connections // CONNECTIONS_OF_A_TENANT, 1))
        ]
        served = [self._connection(number, tenants) for number in range(self.connections)]
        lasts = [START - timedelta(minutes=58) if n < self.late else START for n in range(self.connections)]
        registry = Registry(tuple(tenants), tuple(served), "benchmark", START)
        columns = {
            "ids": [one.connection_id for one in served],
            "keys": [one.partition_key for one in served],
            "providers": [one.provider.value for one in served],
            "tenants": [one.tenant_id for one in served],
        }
        with self.store.begin() as connection:
            snapshot = registry_store.write_snapshot(connection, "1", registry, None)
            registry_store.write_success(connection, snapshot, START)
            connection.execute(_KEYS, {**columns, "seen": START - timedelta(days=30)})
            numbers = {
                "numbers": list(range(self.connections)),
                "lasts": lasts,
                "history": _HISTORY,
                "apart": JOBS_OF_A_CONNECTION,
            }
            connection.execute(_JOBS, {**columns, **numbers})
            publish(connection, _TOPOLOGY, START)
        with self.store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text("vacuum analyze adinsights_ops.sync_job"))

    def beside(self, now: datetime) -> None:
        """What else happens before a tick, whether anything is new or not: probes and sensors say that they look."""
        if self.alone:
            return
        with self.store.begin() as connection:
            readings = [Reading(each, Health.OK, "ok", "as it should be", now) for each in Component]
            health.record(connection, readings, timedelta(minutes=1), timedelta(minutes=5))
        for name, expected in {**_WATCHED, Automation.ALERT_EVALUATE.value: Expected(every=_EVALUATED_EVERY)}.items():
            _note_tick(self.instance, name, expected, now)

    def judge(self, now: datetime) -> freshness.Evaluation:
        """A tick of freshness."""
        return freshness.run(self.store, SLA, now)

    def evaluate(self, now: datetime) -> Evaluation:
        """A tick of alerts."""
        return evaluate_once(PRODUCTION, self.store, SLA, self.policies, now, self.instance, self.standing)

    def judge_show_and_tell(self, now: datetime) -> None:
        """A tick of freshness as its sensor does it: told at once where it is news, and shown in Dagster."""
        evaluate_and_show(self.instance, self.store, SLA, TickClock(now, BUDGET_SECONDS), self.alerter.on_news)

    def evaluate_and_tell(self, now: datetime) -> None:  # noqa: ARG002  (it has a clock of its own)
        """A tick of alerts as its sensor does it."""
        if self.alerter.evaluate(self.instance).orders:
            self.alerter.say(self.instance)

    def deliver(self, now: datetime) -> None:
        """A tick of delivery."""
        deliver.run(self.store, self.sinks, TickClock(now, 40.0))

    def _connection(self, number: int, tenants: list[Tenant]) -> Connection:
        row = uuid5(NAMESPACE, f"alerts/{number}")
        provider = tuple(Provider)[number % len(Provider)]
        # Those that turn late are spread over all tenants.
        tenant = tenants[(number // len(Provider)) % len(tenants)]
        name = f"c{number}"
        return Connection(row, tenant.id, provider, name, row, HOURLY, partition_key=f"{tenant.slug}/c{number:05}")


def _note_tick(instance: dg.DagsterInstance, name: str, expected: Expected, now: datetime) -> None:
    """What the daemon writes when a sensor has ticked, or when it has gone through a schedule."""
    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("monitoring"), "__repository__")
    origin, running = RemoteInstigatorOrigin(repository, name), InstigatorStatus.RUNNING
    if expected.cron:
        gone_through = ScheduleInstigatorData(expected.cron, START.timestamp(), now.timestamp())
        state = InstigatorState(origin, InstigatorType.SCHEDULE, running, gone_through)
    else:
        tick = SensorInstigatorData(last_tick_timestamp=now.timestamp(), min_interval=30)
        state = InstigatorState(origin, InstigatorType.SENSOR, running, tick)
    known = instance.get_instigator_state(state.instigator_origin_id, state.selector_id)
    (instance.update_instigator_state if known else instance.add_instigator_state)(state)


@contextmanager
def counted_statements() -> Iterator[Counter[str]]:
    """Counts what every engine of this process executes."""
    counts: Counter[str] = Counter()

    def before(*_: object) -> None:
        counts["statements"] += 1

    sa.event.listen(sa.Engine, "before_cursor_execute", before)
    try:
        yield counts
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", before)
