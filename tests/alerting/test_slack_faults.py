"""Random faults at every step with Slack over real HTTP as the channel: each matter is one message, and its story.

The schedules are those of `test_faults`. A request or its answer may be lost, applied late, put off or refused; the
history may not answer; processes die between any two statements.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from adinsights_orchestration.alerting.channels import slack_blocks
from adinsights_orchestration.alerting.channels.sinks import Attempted, LookedUp, Notice, Outcome, Sinks, Traits
from adinsights_orchestration.alerting.channels.slack import SlackSink, make_client
from adinsights_orchestration.alerting.evaluation.evaluate import Policies
from adinsights_orchestration.alerting.matching import Routes
from adinsights_orchestration.alerting.message import Message
from adinsights_orchestration.alerting.rules.rule import Rule
from adinsights_orchestration.alerting.telling.grouping import Op, Options
from adinsights_orchestration.ops_store.store import OpsStore
from tests.alerting.channel import Fault
from tests.alerting.slack_support import CHANNEL, LocalSlack, local_slack
from tests.alerting.support import NOON, World
from tests.alerting.test_faults import LONG, STEP, Schedule, _emptied, _findings, _history

NAME = f"slack:{CHANNEL}"
Seen = list[tuple[str, int, str, tuple[str, ...]]]  # group, episode, header, story


class SlackChannel:
    """The sink, with what goes wrong on the way turned with the local Slack's knobs."""

    def __init__(self, slack: LocalSlack) -> None:
        self.slack, self.now, self.name = slack, NOON, NAME
        self.sink = SlackSink(CHANNEL, make_client(slack.settings), clock=lambda: self.now)
        self.traits = Traits(every=timedelta(0), burst=1000)
        self.fault: Callable[[], Fault] = lambda: Fault.NONE
        self.late: list[tuple[datetime, Callable[[], object]]] = []

    def advance(self, now: datetime) -> None:
        """Lets time pass: what was to be applied late is."""
        due = [(at, apply) for at, apply in self.late if at <= now]
        self.late = [each for each in self.late if each not in due]
        for at, apply in due:
            self.now = at
            apply()
        self.now = now

    def post(self, notice: Notice) -> Outcome:
        return self._with_faults(lambda: self.sink.post(notice))

    def update(self, notice: Notice, ref: str) -> Outcome:
        return self._with_faults(lambda: self.sink.update(notice, ref))

    def reply(self, notice: Notice, root: str) -> Outcome:
        return self._with_faults(lambda: self.sink.reply(notice, root))

    def lookup(self, notice: Notice, attempted: Attempted) -> LookedUp:
        self.slack.set("down", self.fault() is not Fault.NONE)
        try:
            return self.sink.lookup(notice, attempted)
        finally:
            self.slack.set("down", False)

    def _with_faults(self, request: Callable[[], Outcome]) -> Outcome:
        match self.fault():
            case Fault.REQUEST_LOST:
                self.slack.set("requests_lost", 1)
            case Fault.REPLY_LOST:
                self.slack.set("replies_lost", 1)
            case Fault.APPLIED_LATE:
                self.slack.set("requests_lost", 1)
                self.late.append((self.now + timedelta(seconds=self.traits.settle_seconds / 2), request))
            case Fault.BUSY:
                self.slack.set("error_next", ["ratelimited"])
            case Fault.REFUSED:
                self.slack.set("error_next", ["something_new"])
        return request()


class SlackSchedule(Schedule):
    """A schedule whose only channel is Slack."""

    def __init__(self, store: OpsStore, seed: int, slack: LocalSlack) -> None:
        super().__init__(store, seed, LONG)
        self.slack, channel = slack, SlackChannel(slack)
        slack.world._clock = lambda: channel.now
        self.channels = (channel,)  # type: ignore[assignment]
        self.sinks = Sinks({NAME: channel}, (NAME,))
        self.policies = Policies((Rule("all", ("all",), self._judge),), Options(Routes((NAME,))))

    def seen(self) -> Seen:
        found = []
        for root in self.slack.world.roots():
            payload = (root.metadata or {})["event_payload"]
            story = tuple(each.blocks[0]["text"]["text"] for each in self.slack.world.thread(root.ts))
            found.append((payload["group"], payload["episode"], root.blocks[0]["text"]["text"], story))
        return sorted(found)


def _should_be_seen(seed: int) -> Seen:
    """The same history, its orders carried out one by one by hand."""
    world = World(Options(Routes((NAME,))))
    roots: dict[tuple[str, int], Message] = {}
    stories: dict[tuple[str, int], list[str]] = {}
    for wrong in _history(random.Random(seed), LONG):
        for order in world.tick(*_findings(wrong), after=STEP):
            key = order.group, order.episode
            if order.op is Op.REPLY:
                line = slack_blocks.story_line(replace(order.message, note=""))
                stories.setdefault(key, []).append(line.blocks[0]["text"]["text"])
            else:
                roots[key] = order.message
    return sorted(
        (*key, slack_blocks.first_message(root).blocks[0]["text"]["text"], tuple(stories.get(key, ())))
        for key, root in roots.items()
    )


def _compare(store: OpsStore, seed: int) -> None:
    with local_slack() as slack:
        schedule = SlackSchedule(_emptied(store), seed, slack)
        schedule.play()
        assert schedule.seen() == _should_be_seen(seed), f"schedule {seed}"


@pytest.mark.parametrize("seed", range(6))
def test_whatever_fails_slack_shows_everything_once(ops_store: OpsStore, seed: int) -> None:
    _compare(ops_store, seed)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_whatever_fails_slack_shows_everything_once_five_hundred_times(ops_store: OpsStore) -> None:
    for seed in range(1000, 1500):
        _compare(ops_store, seed)
