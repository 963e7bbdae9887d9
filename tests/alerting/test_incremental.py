"""Random histories, evaluated by what changed and as a whole: the same incidents, groups and messages after every step.

One ops store is evaluated by a process that remembers its last evaluation, as the sensor does; the other by processes
that know nothing, look at every incident and plan every group. Between evaluations everything happens that may: matters
come, change, move to another group and go, rules turn blind, people acknowledge and silence, the process restarts,
another one evaluates in between, an evaluation fails at any statement, a channel refuses and another takes over, and
the clock is set back.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, time, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from adinsights_orchestration.alerting.channels.sinks import Sinks
from adinsights_orchestration.alerting.delivery import deliver
from adinsights_orchestration.alerting.evaluation import engine, evaluate
from adinsights_orchestration.alerting.evaluation.evaluate import Evaluation, Memory, Policies
from adinsights_orchestration.alerting.facts import Facts
from adinsights_orchestration.alerting.gathering.standing import Standing
from adinsights_orchestration.alerting.inhibition import Graph, Inhibition
from adinsights_orchestration.alerting.matching import Hours, Matcher, Quiet, Route, Routes, Silence
from adinsights_orchestration.alerting.message import Severity
from adinsights_orchestration.alerting.model import Finding, Flap, Policy
from adinsights_orchestration.alerting.operating import hands
from adinsights_orchestration.alerting.places import Places
from adinsights_orchestration.alerting.rules.rule import Rule, Verdict
from adinsights_orchestration.alerting.telling.grouping import Escalation, Options, Storm, Timing
from adinsights_orchestration.alerting.windows import Window
from adinsights_orchestration.clock import TickClock
from adinsights_orchestration.environments import Environment
from adinsights_orchestration.freshness.sla import load_sla
from adinsights_orchestration.ops_store.alert_tables import (
    alert_channel,
    alert_event,
    alert_group,
    alert_incident,
    alert_outbox,
    alert_silence,
)
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import cursor, finding
from adinsights_orchestration.settings import OpsStoreSettings, Settings
from adinsights_orchestration.topology.model import Asset, Topology
from tests.alerting.channel import Channel, Fault
from tests.alerting.support import NOON
from tests.conftest import PostgresServer

SLA = load_sla(Environment.PRODUCTION)
MINUTE = timedelta(minutes=1)
HISTORIES, SOAKED, STEPS = 5, 2000, 20
ALERTS = (alert_outbox, alert_event, alert_group, alert_incident, alert_channel, alert_silence, finding, cursor)
RULES = ("late", "failing", "down", "filling")
GROUPS = ((), ("connections", "meta"), ("connections", "ga4"), ("platform",))
PLACES = Places.of(Settings(environment=Environment.PRODUCTION), None)
TOPOLOGY = Topology(
    "pipelines",
    assets=(
        Asset("source"),
        Asset("meta", upstream=("source",)),
        Asset("ga4", upstream=("source",)),
        Asset("report", upstream=("meta", "ga4")),
    ),
)
UPSIDE_DOWN = Topology(
    "pipelines", assets=(Asset("report"), Asset("meta", upstream=("report",)), Asset("source", upstream=("meta",)))
)
STEPS_OF_TIME = (5, 30, 30, 60, 60, 120, 300, 360, 1200, 3660, -90, -400, -7300)  # seconds

HAPPENINGS = (
    *["nothing"] * 6,
    "ack",
    "ack",
    "silence",
    "unsilence",
    "restart",
    "elsewhere",
    "elsewhere",
    "failure",
    "fault",
)


class EvaluationFailedError(Exception):
    """An evaluation that ends in the middle."""


def matter(dice: random.Random, rule: str, number: int, now: datetime) -> Finding:
    """Something that is wrong, in one of the shapes that rules give it."""
    asset = dice.choice((None, "source", "meta", "ga4", "report"))
    return Finding(
        rule=rule,
        resource=f"r{number}",
        severity=dice.choice((Severity.WARN, Severity.PAGE)),
        title=f"{rule} r{number}",
        detail=f"it says {dice.randrange(3)}",
        since=now - dice.randrange(3) * MINUTE,
        tenant=dice.choice((None, "acme", "zeta")) if number % 2 else None,
        labels={"provider": ("meta", "ga4")[number % 2]},
        group=dice.choice(GROUPS),
        asset=asset,
        explains=("meta", "ga4") if rule == "down" and dice.random() < 0.5 else (),
        is_symptom=rule in ("late", "failing") and dice.random() < 0.8,
        is_since_found=rule == "filling",
        is_measured=rule == "filling",
    )


@dataclass
class World:
    """What is wrong, of what nothing is known, and how it is told; a step of it is the same for the same dice."""

    dice: random.Random
    now: datetime = NOON
    wrong: dict[tuple[str, int], Finding] = field(default_factory=dict)
    blind: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    graph: Graph = field(default_factory=lambda: Graph(TOPOLOGY))
    fault: Fault = Fault.NONE

    def __post_init__(self) -> None:
        self.policies = Policies(
            tuple(Rule(name, (name,), self._judge(name)) for name in RULES),
            self._options(),
            self._believed(),
            tuple(self._windows()),
        )

    def step(self) -> None:
        """Lets time pass and some things change."""
        dice = self.dice
        self.now += timedelta(seconds=dice.choice(STEPS_OF_TIME))
        for _ in range(dice.choice((0, 0, 1, 1, 2, 3, 6))):
            self._change()

    def read(self, _connection: sa.Connection, now: datetime, memory: Memory) -> tuple[Facts, Memory]:
        """The facts; what is wrong is kept by the rules themselves."""
        return Facts(now, SLA, PLACES, graph=self.graph), {}

    def _change(self) -> None:
        dice = self.dice
        key = dice.choice(RULES), dice.randrange(4)
        known = self.wrong.get(key)
        what = dice.random()
        if known is None or what < 0.1:
            self.wrong[key] = matter(dice, *key, self.now)
        elif what < 0.45:
            del self.wrong[key]
        elif what < 0.65:
            self.wrong[key] = replace(known, severity=dice.choice(tuple(Severity)))
        elif what < 0.75:
            self.wrong[key] = replace(known, detail=f"it says {dice.randrange(9)}")
        elif what < 0.8:
            self.wrong[key] = replace(known, group=dice.choice(GROUPS))
        elif what < 0.87:
            self.blind ^= {key[0]}
        elif what < 0.94:
            self.unknown ^= {known.resource}
        else:
            self.graph = Graph(UPSIDE_DOWN if self.graph.topology is TOPOLOGY else TOPOLOGY)

    def _judge(self, name: str) -> Any:
        def judge(facts: Facts) -> Verdict:
            if name in self.blind:
                return Verdict(blind="no data")
            found = [
                each for (rule, _), each in self.wrong.items() if rule == name and each.resource not in self.unknown
            ]
            found = [replace(each, since=facts.now) if each.is_since_found else each for each in found]
            return Verdict(found, unknown=dict.fromkeys(self.unknown, "no data of it"))

        return judge

    def _options(self) -> Options:
        dice = self.dice
        two = Route((Matcher.parse("severity=page"),), ("main", "second"), goes_on=dice.random() < 0.5)
        other = Route((Matcher.parse("provider=ga4"),), ("second",))
        office = Hours("Europe/Berlin", begin=time(8), end=time(17), days=frozenset(range(7)))
        return Options(
            Routes(("main",), dice.choice(((), (two,), (other,), (two, other)))),
            timing=dice.choice(
                (
                    Timing(),
                    Timing(repeat_interval=20 * MINUTE),
                    Timing(MINUTE, 3 * MINUTE, 15 * MINUTE, timedelta()),
                    Timing(timedelta(), 2 * MINUTE, 10 * MINUTE, 12 * MINUTE),
                )
            ),
            storm=dice.choice((Storm(), None, Storm(2, 10 * MINUTE), Storm(1, 30 * MINUTE))),
            hours=dice.choice(({}, {}, {Severity.WARN: office})),
            escalation=dice.choice(((), (), (Escalation(10 * MINUTE, Routes(("second",))),))),
            inhibitions=dice.choice(
                ((), (Inhibition((Matcher.parse("rule=failing"),), (Matcher.parse("rule=late"),), ("resource",)),))
            ),
            grace=dice.choice((timedelta(), 5 * MINUTE)),
        )

    def _believed(self) -> dict[str, Policy]:
        dice = self.dice
        some = (
            Policy(),
            Policy(for_=3 * MINUTE),
            Policy(keep_firing=4 * MINUTE),
            Policy(2 * MINUTE, 2 * MINUTE, Flap(2, 60 * MINUTE, 10 * MINUTE)),
        )
        return {rule: dice.choice(some) for rule in RULES if dice.random() < 0.5}

    def _windows(self) -> Iterator[Window]:
        if self.dice.random() < 0.4:
            begin = NOON + self.dice.randrange(60) * MINUTE
            matchers = (Matcher.parse(self.dice.choice(("provider=meta", "severity=warn", "tenant=acme"))),)
            yield Silence(0, matchers, begin, begin + 25 * MINUTE, "ann", "work", Quiet.MAINTENANCE, "upgrade")


class Side:
    """One of the two: an ops store, the processes that evaluate and deliver, and the channels."""

    def __init__(self, store: OpsStore, world: World, *, remembers: bool) -> None:
        self.store, self.world, self.remembers = store, world, remembers
        self.standing = Standing()
        self.channels = {name: Channel(name) for name in ("main", "second")}
        self.sinks = Sinks(dict(self.channels), ("main",), {"main": "second"})
        with store.begin() as connection:
            tables = ", ".join(str(table) for table in ALERTS)
            connection.execute(sa.text(f"truncate {tables} restart identity"))

    def evaluate(self) -> Evaluation:
        """As the sensor does, or as a process does that knows nothing."""
        if self.remembers:
            return evaluate.run(self.store, self.world.read, self.world.policies, self.world.now, self.standing)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(engine, "_is_settled", lambda *_: False)
            return evaluate.run(self.store, self.world.read, self.world.policies, self.world.now)

    def happens(self, what: str, number: int) -> None:
        """What people and processes do between two evaluations."""
        now = self.world.now
        match what:
            case "ack":
                for each in hands.open_incidents(self.store)[:1]:
                    hands.acknowledge(self.store, each.id, "ann", now)
            case "silence":
                hands.silence(self.store, ["severity=warn"], number * MINUTE, "ann", "noise", now)
            case "unsilence":
                for silence in hands.silences(self.store, now)[:1]:
                    hands.unsilence(self.store, silence.id, "ann", now)
            case "restart":
                self.standing = Standing()
            case "elsewhere":
                self.evaluate_elsewhere()
            case "failure" if self.remembers:
                self.fail(number)

    def evaluate_elsewhere(self) -> None:
        """Another process evaluates: the job that a person starts, or another deployment for a while."""
        evaluate.run(self.store, self.world.read, self.world.policies, self.world.now)

    def fail(self, after: int) -> None:
        """An evaluation of this process ends after so many statements, or at its commit, and leaves nothing behind."""
        left = [after]

        def before(*_: object) -> None:
            left[0] -= 1
            if not left[0]:
                raise EvaluationFailedError

        def at_commit(_: object) -> None:
            raise EvaluationFailedError

        sa.event.listen(self.store.engine, "before_cursor_execute", before)
        sa.event.listen(self.store.engine, "commit", at_commit)
        try:
            with pytest.raises(EvaluationFailedError):
                self.evaluate()
        finally:
            sa.event.remove(self.store.engine, "before_cursor_execute", before)
            sa.event.remove(self.store.engine, "commit", at_commit)

    def deliver(self, fault: Fault) -> None:
        self.channels["main"].fault = lambda: fault
        for channel in self.channels.values():
            channel.advance(self.world.now)
        for _ in range(2):  # what one channel hands over to another that was served already
            deliver.run(self.store, self.sinks, TickClock(self.world.now, 40.0, lambda: 0.0))

    def kept(self) -> list[Any]:
        """Everything that an evaluation writes, but for ids."""
        orders = sa.select(*(c for c in alert_outbox.c if c.name not in ("notice_id", "claim", "ref")))
        events = sa.select(*(c for c in alert_event.c if c.name not in ("id", "notice_id")))
        held = sa.select(cursor.c.value["held"]).where(cursor.c.name == "alert_evaluate")
        with self.store.begin() as connection:
            return [
                connection.execute(sa.select(alert_incident).order_by(alert_incident.c.fingerprint)).all(),
                connection.execute(sa.select(alert_group).order_by(alert_group.c.key)).all(),
                connection.execute(
                    orders.order_by(*(alert_outbox.c[n] for n in ("group_key", "episode", "seq", "sink")))
                ).all(),
                sorted(map(str, connection.execute(events).all())),
                connection.execute(held).all(),
            ]

    def shown(self) -> list[Any]:
        """What readers see; two messages of one moment may come in any order."""
        return [
            sorted(str((each.message, [line for _, line in each.replies])) for each in channel.posts)
            for channel in self.channels.values()
        ]


def play(stores: tuple[OpsStore, OpsStore], seed: int) -> None:
    """One history, on both sides."""
    sides = [
        Side(store, World(random.Random(seed)), remembers=remembers)
        for store, remembers in zip(stores, (True, False), strict=True)
    ]
    dice = random.Random(seed + 1_000_000)
    for step in range(STEPS):
        what, number = dice.choice(HAPPENINGS), dice.randrange(1, 14)
        fault = dice.choice((Fault.REJECTED, Fault.REFUSED)) if what == "fault" else Fault.NONE
        for side in sides:
            side.world.step()
            side.happens(what, number)
        one, other = (side.evaluate() for side in sides)
        assert one == other, f"history {seed}, step {step}"
        for kept, expected in zip(*(side.kept() for side in sides), strict=True):
            assert _differing(kept, expected) == [], f"history {seed}, step {step}"
        for side in sides:
            side.deliver(fault)
        assert sides[0].shown() == sides[1].shown(), f"history {seed}, step {step}"


def _differing(one: list[Any], other: list[Any]) -> list[Any]:
    """The rows that only one of the two has."""
    return [
        *(("only what changed", row) for row in one if row not in other),
        *(("only everything", row) for row in other if row not in one),
    ]


@pytest.fixture
def stores(postgres_server: PostgresServer, migrated_ops_store: str) -> Iterator[tuple[OpsStore, OpsStore]]:
    """Two ops stores."""
    copies = (postgres_server.copy_database(migrated_ops_store) for _ in range(2))
    one, other = (OpsStore(OpsStoreSettings(dsn=SecretStr(dsn))) for dsn in copies)
    yield one, other
    one.dispose()
    other.dispose()


def test_an_evaluation_of_what_changed_says_what_one_of_everything_says(stores: tuple[OpsStore, OpsStore]) -> None:
    for seed in range(HISTORIES):
        play(stores, seed)


@pytest.mark.soak
@pytest.mark.parametrize("part", range(10))
def test_an_evaluation_of_what_changed_says_what_one_of_everything_says_very_often(
    stores: tuple[OpsStore, OpsStore], part: int
) -> None:
    for seed in range(HISTORIES + part * SOAKED // 10, HISTORIES + (part + 1) * SOAKED // 10):
        play(stores, seed)
