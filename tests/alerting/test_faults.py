"""Random faults at every step, and what a channel's readers then have seen: everything that should be said, once.

A schedule drives evaluations and two deliveries over a real Postgres. Any transaction may die before its commit, any
process between any two statements, any request and look-up in every way that `Fault` knows. What should have been said
is what the pure engine orders for the same history.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from adinsights_orchestration.alerting.channels.sinks import Sinks
from adinsights_orchestration.alerting.delivery import deliver
from adinsights_orchestration.alerting.evaluation import evaluate
from adinsights_orchestration.alerting.evaluation.evaluate import Memory, Policies
from adinsights_orchestration.alerting.facts import Facts
from adinsights_orchestration.alerting.matching import Routes
from adinsights_orchestration.alerting.message import Message, Severity
from adinsights_orchestration.alerting.model import Finding
from adinsights_orchestration.alerting.places import Places
from adinsights_orchestration.alerting.rules.rule import Rule, Verdict
from adinsights_orchestration.alerting.telling.grouping import Op, Options
from adinsights_orchestration.clock import TickClock
from adinsights_orchestration.environments import Environment
from adinsights_orchestration.freshness.sla import load_sla
from adinsights_orchestration.ops_store.alert_tables import (
    alert_channel,
    alert_event,
    alert_group,
    alert_incident,
    alert_outbox,
)
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import cursor
from adinsights_orchestration.settings import Settings
from tests.alerting.channel import Channel, Fault
from tests.alerting.support import NOON, World, finding

TABLES = (alert_outbox, alert_event, alert_group, alert_incident, alert_channel, cursor)
SLA = load_sla(Environment.PRODUCTION)
PLACES = Places.of(Settings(environment=Environment.PRODUCTION), None)
SCHEDULES = 200
STEPS, LONG = 6, 9  # of the long suite
STEP = timedelta(minutes=2)
FAULTY = [Fault.REQUEST_LOST, Fault.REPLY_LOST, Fault.APPLIED_LATE, Fault.BUSY, Fault.REFUSED]
Said = tuple[str, int, str, str, tuple[tuple[str, ...], ...]]  # group, episode, standing, title, story
Wrong = tuple[frozenset[str], frozenset[str]]  # what is wrong, and what of it pages


class Died(BaseException):
    """The process is gone: nothing catches this."""


class FaultyStore:
    """The ops store in a process that may die before, within and after any transaction."""

    def __init__(self, store: OpsStore, dies: random.Random, share: float) -> None:
        self._store, self._dies, self.share = store, dies, share

    def _maybe(self) -> None:
        if self._dies.random() < self.share:
            raise Died

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        self._maybe()
        with self._store.begin() as connection:

            def before_statement(*_: object) -> None:
                if self._dies.random() < self.share / 8:
                    raise Died

            sa.event.listen(connection, "before_cursor_execute", before_statement)
            yield connection
            self._maybe()
        self._maybe()

    @contextmanager
    def exclusive(self, name: str) -> Iterator[bool]:
        with self._store.exclusive(name) as mine:
            yield mine


class Schedule:
    """One history of what is wrong, played to a channel."""

    def __init__(self, store: OpsStore, seed: int, steps: int) -> None:
        self.history = _history(random.Random(seed), steps)
        self.dice = random.Random(seed + 1)
        self.now, self.real = NOON, store
        self.store = FaultyStore(store, self.dice, 0.06)
        self.channels = (Channel("main"),)
        self.sinks = Sinks({channel.name: channel for channel in self.channels}, ("main",))
        self.wrong: Wrong = (frozenset(), frozenset())
        rule = Rule("all", ("all",), self._judge)
        self.policies = Policies((rule,), Options(Routes(("main",))))
        self.restarts = 0

    def _judge(self, facts: Facts) -> Verdict:
        return Verdict(_findings(self.wrong))

    def _read(self, _connection: sa.Connection, now: datetime, _memory: Memory) -> tuple[Facts, Memory]:
        return Facts(now, SLA, PLACES), {}

    def _fault(self) -> Fault:
        if self.dice.random() < 0.05:
            raise Died
        return self.dice.choice(FAULTY) if self.dice.random() < 0.35 else Fault.NONE

    def play(self) -> None:
        for wrong in self.history:
            self.wrong = wrong
            self.now += STEP
            # An evaluation that dies is done again by the next process, at the same moment of the history.
            while not self._survives(lambda: evaluate.run(self.store, self._read, self.policies, self.now)):  # type: ignore[arg-type]
                pass
            self.deliver(parallel=True)
        self.store.share = 0.0
        for channel in self.channels:
            channel.fault = lambda: Fault.NONE
        for _ in range(3):
            self.now += timedelta(minutes=10)
            self.deliver(parallel=False)

    def deliver(self, *, parallel: bool) -> None:
        """One delivery, another one in the middle of any of its requests."""
        for channel in self.channels:
            channel.advance(self.now)
            if parallel:
                channel.fault = self._with_another_delivery(channel)
        self._survives(lambda: deliver.run(self.store, self.sinks, self._clock()))  # type: ignore[arg-type]
        if parallel:
            for channel in self.channels:
                channel.fault = self._fault

    def _with_another_delivery(self, channel: Channel):  # type: ignore[no-untyped-def]
        def fault() -> Fault:
            if self.dice.random() < 0.2:
                channel.fault = self._fault
                self._survives(lambda: deliver.run(self.store, self.sinks, self._clock()))  # type: ignore[arg-type]
            return self._fault()

        return fault

    def _clock(self) -> TickClock:
        return TickClock(self.now, 40.0, lambda: 0.0)

    def _survives(self, work) -> bool:  # type: ignore[no-untyped-def]
        try:
            work()
        except Died:
            self.restarts += 1
            return False
        return True

    def said(self) -> list[Said]:
        """What the readers see: each message as it stands at the end, and its story in order."""
        return sorted(
            (
                shown.message.group,
                shown.message.episode,
                shown.message.standing.value,
                shown.message.title,
                tuple(message.lines for _, message in shown.replies),
            )
            for channel in self.channels
            for shown in channel.posts
        )


def _history(dice: random.Random, steps: int) -> list[Wrong]:
    """What is wrong, minute by minute: six matters in two groups that come, worsen and go."""
    names = ["a1", "a2", "a3", "b1", "b2", "c1"]
    wrong: set[str] = set()
    paged: set[str] = set()
    history = []
    for _ in range(steps):
        for name in names:
            if dice.random() < 0.2:
                wrong ^= {name}
                paged -= {name}
            elif name in wrong and dice.random() < 0.12:
                paged |= {name}
        history.append((frozenset(wrong), frozenset(paged)))
    return [*history, *[(frozenset[str](), frozenset[str]())] * 4]


def _findings(wrong: Wrong) -> list[Finding]:
    names, paged = wrong
    return [
        finding(name, Severity.PAGE if name in paged else Severity.WARN, rule="all", group=(name[0],))
        for name in sorted(names)
    ]


def _should_be_said(seed: int, steps: int) -> list[Said]:
    """The same history, its orders carried out one by one by hand."""
    world = World(Options(Routes(("main",))))
    roots: dict[tuple[str, int], Message] = {}
    stories: dict[tuple[str, int], list[tuple[str, ...]]] = {}
    for wrong in _history(random.Random(seed), steps):
        for order in world.tick(*_findings(wrong), after=STEP):
            key = order.group, order.episode
            if order.op is Op.REPLY:
                stories.setdefault(key, []).append(order.message.lines)
            else:
                roots[key] = order.message
    return sorted((*key, root.standing.value, root.title, tuple(stories.get(key, ()))) for key, root in roots.items())


def _emptied(store: OpsStore) -> OpsStore:
    with store.begin() as connection:
        for table in TABLES:
            connection.execute(sa.delete(table))
    return store


def _compare(store: OpsStore, seed: int, steps: int = STEPS) -> int:
    faulty = Schedule(_emptied(store), seed, steps)
    faulty.play()
    assert faulty.said() == _should_be_said(seed, steps), f"schedule {seed}"
    with store.begin() as connection:
        unsent = sa.select(sa.func.count()).where(alert_outbox.c.state != "sent")
        assert connection.execute(unsent).scalar_one() == 0, f"schedule {seed}"
    return faulty.restarts


@pytest.mark.parametrize("part", range(10))
def test_whatever_fails_everything_is_said_once(ops_store: OpsStore, part: int) -> None:
    each = SCHEDULES // 10
    restarts = sum(_compare(ops_store, seed) for seed in range(part * each, (part + 1) * each))
    assert restarts > each, "processes died"


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("part", range(20))
def test_whatever_fails_everything_is_said_once_ten_thousand_times(ops_store: OpsStore, part: int) -> None:
    for seed in range(10_000 + part * 500, 10_000 + (part + 1) * 500):
        _compare(ops_store, seed, LONG)
