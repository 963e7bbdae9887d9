"""A channel that refused something for good and takes messages again: what it shows then, and that nobody is paged."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from adinsights_orchestration.alerting.bookkeeping.upkeep import UNDELIVERABLE
from adinsights_orchestration.alerting.message import Severity, Standing
from adinsights_orchestration.alerting.operating import replay, trial
from adinsights_orchestration.environments import Environment
from adinsights_orchestration.ops_store.findings import clear_finding, open_findings
from adinsights_orchestration.ops_store.store import OpsStore
from tests.alerting.channel import Channel, Fault
from tests.alerting.office import Office
from tests.alerting.support import finding

MINUTE = timedelta(minutes=1)
OTHER = finding("other", rule="component_down")


@pytest.fixture
def office(ops_store: OpsStore) -> Office:
    return Office(ops_store, Channel("first"))


def open_ones(office: Office) -> list[str]:
    with office.store.begin() as connection:
        return [one.subject for one in open_findings(connection, UNDELIVERABLE)]


def refused(office: Office) -> Channel:
    """The channel, which has refused the message about `a` for good and takes everything again."""
    (channel,) = office.channels
    channel.fault = lambda: Fault.REJECTED
    office.tick("a")
    office.deliver()
    assert open_ones(office) == ["first"]
    channel.fault = lambda: Fault.NONE
    return channel


def test_what_a_channel_had_refused_is_said_whole_with_its_next_change_and_pages_nobody(office: Office) -> None:
    channel = refused(office)
    office.tick("a", OTHER)
    office.deliver()
    assert open_ones(office) == [], "it took a message"
    office.tick("a", OTHER, severity=Severity.PAGE, after=5 * MINUTE)
    office.deliver()
    office.deliver()
    assert open_ones(office) == []
    assert [each.message.title for each in channel.posts] == ["other is late", "a is late"]
    assert channel.posts[1].message.severity is Severity.PAGE
    office.tick(OTHER, after=5 * MINUTE)
    office.deliver()
    office.deliver()
    assert [reply.lines[0][-10:] for _, reply in channel.posts[1].replies][-1] == "er 12 min."
    assert replay.dead_letters(office.store, "ann", office.world.now, everything=True) == [], "it was said"


def test_what_is_over_when_its_channel_takes_messages_again_is_not_said_there_and_pages_nobody(office: Office) -> None:
    channel = refused(office)
    office.tick("a", OTHER)
    office.deliver()
    office.tick(OTHER, after=5 * MINUTE)
    office.deliver()
    office.deliver()
    assert open_ones(office) == []
    assert [each.message.title for each in channel.posts] == ["other is late"]


@pytest.mark.parametrize("changed", ["edit", "line"])
def test_a_channel_takes_messages_again_once_it_takes_an_edit_or_a_line_of_a_story(
    office: Office, changed: str
) -> None:
    (channel,) = office.channels
    office.tick(OTHER)
    office.deliver()
    channel.fault = lambda: Fault.REJECTED
    office.tick("a", OTHER)
    office.deliver()
    assert open_ones(office) == ["first"]
    channel.fault = lambda: Fault.NONE
    further = finding("further", rule="component_down")
    office.tick("a", OTHER, further, after=MINUTE if changed == "edit" else 5 * MINUTE)
    assert "post" not in {op for op, state in office.states() if state == "pending"}
    office.deliver()
    assert open_ones(office) == []


def test_what_was_refused_is_said_whole_with_its_next_change_once_the_channel_passed_a_test(office: Office) -> None:
    channel = refused(office)
    office.world.now += MINUTE
    message = trial.trial_message(Environment.STAGING, "ann", office.world.now)
    trial.clear_mended(office.store, trial.try_sinks(office.sinks, message), office.world.now)
    assert open_ones(office) == []
    office.tick("a", "b")
    assert "reply" not in [op for op, _ in office.states()], "nothing alarms"
    office.deliver()
    _, shown = channel.posts
    assert len(shown.message.items) == 2


def test_a_channel_that_passed_a_test_and_still_refuses_is_asked_once_and_told_of_again(office: Office) -> None:
    channel = refused(office)
    with office.store.begin() as connection:
        clear_finding(connection, UNDELIVERABLE, "first", office.world.now + MINUTE / 2)
    channel.fault = lambda: Fault.REJECTED
    calls = channel.calls
    office.tick("a", severity=Severity.PAGE)
    for _ in range(3):
        office.deliver()
    assert channel.calls == calls + 1
    assert open_ones(office) == ["first"]


def test_what_gets_worse_asks_a_channel_that_nobody_tested_and_is_said_whole(office: Office) -> None:
    channel = refused(office)
    office.tick("a", severity=Severity.PAGE, after=5 * MINUTE)
    office.deliver()
    (shown,) = channel.posts
    assert (shown.message.severity, shown.message.title) == (Severity.PAGE, "a is late")
    assert open_ones(office) == []
    office.tick(after=5 * MINUTE)
    office.deliver()
    assert shown.message.standing is Standing.RESOLVED
    assert [reply.lines[0][-10:] for _, reply in shown.replies] == ["er 11 min."]


def test_a_reminder_asks_a_channel_that_nobody_tested(office: Office) -> None:
    channel = refused(office)
    office.tick("a", after=timedelta(hours=5))
    office.deliver()
    assert [each.message.title for each in channel.posts] == ["a is late"]


def test_a_channel_that_is_still_broken_is_asked_once_a_minute_whatever_alarms(office: Office) -> None:
    channel = refused(office)
    channel.fault = lambda: Fault.REJECTED
    office.tick("a", OTHER)
    office.deliver()
    calls = channel.calls
    office.tick("a", OTHER, severity=Severity.PAGE, after=5 * MINUTE)
    office.tick("a", replace(OTHER, severity=Severity.PAGE), severity=Severity.PAGE, after=timedelta(seconds=1))
    for _ in range(5):
        office.deliver(timedelta(seconds=5))
    assert channel.calls == calls + 1
    assert {state for _, state in office.states()} == {"dead"}


def test_a_second_channel_has_one_message_and_its_whole_story_while_the_first_is_asked(ops_store: OpsStore) -> None:
    first, second = Channel("first"), Channel("second")
    office = Office(ops_store, first, second, fallback={"first": "second"})
    first.fault = lambda: Fault.REJECTED
    office.tick("a")
    office.deliver()
    office.deliver()
    calls = first.calls
    office.tick("a", severity=Severity.PAGE, after=5 * MINUTE)
    office.deliver()
    office.deliver()
    assert first.calls == calls + 1
    (shown,) = second.posts
    assert len(shown.replies) == 1
