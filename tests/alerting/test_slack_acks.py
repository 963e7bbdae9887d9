"""A reaction in Slack acknowledges: read over real HTTP, kept with who and when, cancelled when it gets worse."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest

from adinsights_orchestration.alerting.bookkeeping import outbox, rows
from adinsights_orchestration.alerting.channels.sinks import Sinks
from adinsights_orchestration.alerting.channels.slack import make_client
from adinsights_orchestration.alerting.delivery import deliver
from adinsights_orchestration.alerting.evaluation.engine import Before, Surroundings, advance
from adinsights_orchestration.alerting.matching import Routes, Silence
from adinsights_orchestration.alerting.message import Severity
from adinsights_orchestration.alerting.model import Absent, Finding
from adinsights_orchestration.alerting.operating import hands
from adinsights_orchestration.alerting.operating.slack_acks import Acknowledgements, open_messages
from adinsights_orchestration.alerting.telling.grouping import Options
from adinsights_orchestration.clock import TickClock
from adinsights_orchestration.local.slack.world import BOT, SlackError
from adinsights_orchestration.ops_store.store import OpsStore
from tests.alerting.slack_support import CHANNEL, LocalSlack, local_slack
from tests.alerting.support import NOON, finding

MINUTE = timedelta(minutes=1)


class Desk:
    """Alerting with Slack as its only channel, in virtual time."""

    def __init__(self, store: OpsStore, slack: LocalSlack) -> None:
        self.store, self.slack, self.now = store, slack, NOON
        sink = slack.sink()
        self.sinks = Sinks({sink.name: sink}, (sink.name,))
        self.acks = Acknowledgements(make_client(slack.settings), slack.settings.timeout_seconds)

    def tick(self, *findings: Finding, silences: Sequence[Silence] = ()) -> None:
        self.now += MINUTE
        with self.store.begin() as connection:
            before = rows.load_incidents(connection, {each.fingerprint for each in findings})
            groups = rows.load_groups(connection, [each.group_key for each in findings])
            options = Options(Routes((f"slack:{CHANNEL}",)))
            around = Surroundings(options, silences=silences)
            done = advance(Before(before, groups), findings, lambda _: Absent(), around, self.now)
            rows.save_incidents(connection, done.incidents)
            rows.save_groups(connection, done.groups)
            outbox.enqueue(connection, done.orders, self.now)
        deliver.run(self.store, self.sinks, self.clock())

    def clock(self, budget: float = 40.0) -> TickClock:
        return TickClock(self.now, budget, lambda: 0.0)

    def react(self, **by: str) -> None:
        self.slack.world.react(CHANNEL, self.slack.world.roots()[-1].ts, **by)

    def hide(self, user: str, error: str) -> None:
        """Lets Slack answer so when it is asked who somebody is."""
        methods = self.slack.world.methods
        shows = methods["users.info"]

        def info(asked: Mapping[str, Any]) -> dict[str, Any]:
            if asked["user"] == user:
                raise SlackError(error)
            return shows(asked)

        methods["users.info"] = info

    def title(self) -> str:
        return str(self.slack.world.roots()[-1].blocks[0]["text"]["text"])


@pytest.fixture
def desk(ops_store: OpsStore) -> Iterator[Desk]:
    with local_slack() as slack:
        yield Desk(ops_store, slack)


def test_a_reaction_acknowledges_with_the_person_s_name_and_the_message_shows_it(desk: Desk) -> None:
    desk.tick(finding("a"))
    assert desk.acks.collect(desk.store, desk.clock()) == 0
    desk.react()
    assert desk.acks.collect(desk.store, desk.clock()) == 1
    (incident,) = hands.open_incidents(desk.store)
    assert (incident.acked_by, incident.acked_at) == ("Olivia Oncall (Slack)", desk.now)
    desk.tick(finding("a"))
    assert desk.title().startswith(":eyes:")
    assert desk.acks.collect(desk.store, desk.clock()) == 0, "once"


def test_it_is_cancelled_when_it_gets_worse(desk: Desk) -> None:
    desk.tick(finding("a"))
    desk.react()
    desk.acks.collect(desk.store, desk.clock())
    desk.tick(finding("a", Severity.PAGE))
    (incident,) = hands.open_incidents(desk.store)
    assert incident.acked_by is None
    assert desk.title().startswith(":red_circle:")


def test_what_got_worse_is_taken_on_by_a_new_reaction_and_not_by_the_old_one(desk: Desk) -> None:
    desk.tick(finding("a"))
    desk.react()
    desk.acks.collect(desk.store, desk.clock())
    desk.react(name="thumbsup")
    desk.acks.collect(desk.store, desk.clock())
    desk.tick(finding("a", Severity.PAGE))
    next_process = Acknowledgements(make_client(desk.slack.settings), desk.slack.settings.timeout_seconds)
    for acks in (desk.acks, next_process):
        assert acks.collect(desk.store, desk.clock()) == 0
    desk.slack.world.take_back(CHANNEL, desk.slack.world.roots()[-1].ts)
    assert desk.acks.collect(desk.store, desk.clock()) == 0
    desk.react()
    assert desk.acks.collect(desk.store, desk.clock()) == 1
    (incident,) = hands.open_incidents(desk.store)
    assert incident.acked_by == "Olivia Oncall (Slack)"


def test_a_reaction_where_the_channel_shows_the_alarm_takes_it_on_once(desk: Desk) -> None:
    desk.tick(finding("a"))
    desk.tick(finding("a", Severity.PAGE))
    (line,) = desk.slack.world.thread(desk.slack.world.roots()[-1].ts)
    assert "Worse, now a page" in line.text
    assert desk.acks.collect(desk.store, desk.clock()) == 0
    desk.slack.world.react(CHANNEL, line.ts)
    assert desk.acks.collect(desk.store, desk.clock()) == 1
    assert [desk.acks.collect(desk.store, desk.clock()) for _ in range(2)] == [0, 0]
    assert hands.open_incidents(desk.store)[0].acked_by == "Olivia Oncall (Slack)"


def test_of_the_lines_that_the_channel_shows_only_the_newest_is_asked_about(desk: Desk) -> None:
    desk.tick(finding("a"))
    for _ in range(2):  # it is told again
        desk.now += timedelta(hours=5)
        desk.tick(finding("a"))
    older, newest = desk.slack.world.thread(desk.slack.world.roots()[-1].ts)
    with desk.store.begin() as connection:
        asked = [each.place.ts for each in open_messages(connection)]
    assert older.ts not in asked
    assert asked == [desk.slack.world.roots()[-1].ts, newest.ts]


def test_a_reaction_does_not_take_on_what_is_kept_quiet_in_the_same_message(desk: Desk) -> None:
    desk.tick(finding("a"))
    hands.silence(desk.store, ["resource=b"], timedelta(hours=1), "olivia", "known", desk.now)
    with desk.store.begin() as connection:
        quiet = rows.load_silences(connection, desk.now)
    desk.tick(finding("a"), finding("b"), silences=quiet)
    desk.react()
    desk.acks.collect(desk.store, desk.clock())
    acked = {each.finding.resource: each.acked_by for each in hands.open_incidents(desk.store)}
    assert acked == {"a": "Olivia Oncall (Slack)", "b": None}


def test_a_bot_s_reaction_counts_for_nothing(desk: Desk) -> None:
    desk.tick(finding("a"))
    desk.react(user=BOT)
    assert desk.acks.collect(desk.store, desk.clock()) == 0
    assert hands.open_incidents(desk.store)[0].acked_by is None


@pytest.mark.parametrize("error", ["user_not_found", "user_not_visible"])
def test_a_person_whom_slack_does_not_show_takes_it_on_by_id(desk: Desk, error: str) -> None:
    desk.hide("U0GUEST", error)
    desk.tick(finding("a"))
    desk.react(user="U0GUEST")
    assert desk.acks.collect(desk.store, desk.clock()) == 1
    assert hands.open_incidents(desk.store)[0].acked_by == "U0GUEST (Slack)"


@pytest.mark.parametrize("error", ["missing_scope", "internal_error"])
def test_nobody_takes_it_on_while_slack_does_not_say_who_is_a_bot(desk: Desk, error: str) -> None:
    desk.hide(BOT, error)
    desk.tick(finding("a"))
    desk.react(user=BOT)
    assert desk.acks.collect(desk.store, desk.clock()) == 0
    assert hands.open_incidents(desk.store)[0].acked_by is None


def test_what_is_over_is_not_asked_about(desk: Desk) -> None:
    desk.tick(finding("a"))
    desk.tick()
    calls = len(desk.slack.world.calls)
    assert desk.acks.collect(desk.store, desk.clock()) == 0
    assert len(desk.slack.world.calls) == calls


def test_a_tick_without_time_left_asks_nothing_and_a_slack_that_is_down_breaks_nothing(desk: Desk) -> None:
    desk.tick(finding("a"))
    desk.react()
    assert desk.acks.collect(desk.store, desk.clock(budget=1.0)) == 0
    desk.slack.set("down", True)
    assert desk.acks.collect(desk.store, desk.clock()) == 0
    desk.slack.set("down", False)
    assert desk.acks.collect(desk.store, desk.clock()) == 1
