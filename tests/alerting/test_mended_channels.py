"""A channel that refused something for good and takes messages again: what it shows then, and that nobody is paged."""

from __future__ import annotations

from datetime import timedelta

import pytest

from adinsights_orchestration.alerting.bookkeeping.upkeep import UNDELIVERABLE
from adinsights_orchestration.alerting.message import Severity
from adinsights_orchestration.alerting.operating import replay
from adinsights_orchestration.ops_store.findings import open_findings
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
