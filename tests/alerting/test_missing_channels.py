"""Channels that were taken out of the alert file, or renamed, while something was told in them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from adinsights_orchestration.alerting.bookkeeping.upkeep import UNDELIVERABLE
from adinsights_orchestration.alerting.channels.sinks import Sink, Sinks
from adinsights_orchestration.alerting.configuration.alert_file import load_alerts
from adinsights_orchestration.alerting.contacts import IS_MAIN, MAIN_CHANNEL
from adinsights_orchestration.alerting.delivery.opening import build_sinks, policies_of, reached
from adinsights_orchestration.alerting.matching import Routes
from adinsights_orchestration.alerting.message import Severity, plain_text
from adinsights_orchestration.alerting.operating.trial import try_sinks
from adinsights_orchestration.alerting.telling.grouping import Op, Options
from adinsights_orchestration.ops_store.alert_tables import alert_event
from adinsights_orchestration.ops_store.findings import open_finding, open_findings
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings, SlackSettings
from tests.alerting.channel import Channel, Fault
from tests.alerting.office import Office
from tests.alerting.slack_support import a_message
from tests.alerting.support import World, finding

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


def _route_to(world: World, *sinks: str, there: tuple[str, ...] | None = None) -> None:
    world.around = replace(world.around, options=Options(Routes(sinks), sinks=frozenset(there or sinks)))


@pytest.fixture
def old() -> Channel:
    return Channel("old")


@pytest.fixture
def new() -> Channel:
    return Channel("new")


@pytest.fixture
def office(ops_store: OpsStore, old: Channel, new: Channel) -> Office:
    return Office(ops_store, old, new)


def _rename(office: Office, *channels: Channel) -> None:
    """The file has these channels from now on, and everything goes to the first."""
    by_name: dict[str, Sink] = {channel.name: channel for channel in channels}
    office.sinks = Sinks(by_name, (channels[0].name,))
    _route_to(office.world, channels[0].name, there=tuple(by_name))


def test_what_was_told_in_a_channel_that_is_gone_is_told_whole_where_its_route_leads_now_and_once() -> None:
    world = World(Options(Routes(("old",))))
    world.tick(finding("a"))
    _route_to(world, "new")
    post, farewell = world.tick(finding("a"))
    assert (post.op, post.sink, post.message.note) == (Op.POST, "new", "Here because old is not configured any more.")
    assert "a is late" in plain_text(post.message)
    assert (farewell.op, farewell.sink) == (Op.UPDATE, "old")
    assert farewell.message.note == "From now on told in new; this message stays as it is."
    assert world.tick(finding("a")) == []

    told = world.tick(finding("a", Severity.PAGE))
    assert {(order.op, order.sink) for order in told} == {
        (op, sink) for op in (Op.UPDATE, Op.REPLY) for sink in ("old", "new")
    }


def test_a_new_reader_of_what_got_worse_is_not_told_that_a_channel_is_gone() -> None:
    world = World(Options(Routes(("old",))))
    world.tick(finding("a"))
    _route_to(world, "new")
    world.tick(finding("a"))
    _route_to(world, "new", "pages")
    posts = [order for order in world.tick(finding("a", Severity.PAGE)) if order.op is Op.POST]
    assert [(order.sink, order.message.note) for order in posts] == [("pages", "")]


def test_while_every_channel_is_there_a_changed_route_moves_nothing_that_is_told() -> None:
    world = World(Options(Routes(("old",))))
    world.tick(finding("a"))
    _route_to(world, "new", there=("new", "old"))
    assert world.tick(finding("a")) == []


def test_nothing_pages_about_a_channel_that_is_gone_and_what_waits_for_it_ends_a_day_after_its_matter(
    office: Office, ops_store: OpsStore, old: Channel, new: Channel
) -> None:
    old.fault = lambda: Fault.REFUSED
    office.tick("a", severity=Severity.PAGE)
    office.deliver()
    with ops_store.begin() as connection:
        open_finding(connection, UNDELIVERABLE, "old", {"reason": "is_archived"}, office.world.now)

    _rename(office, new)
    office.tick("a", severity=Severity.PAGE)
    assert office.deliver().counts == {"sent": 1}
    assert "a is late" in plain_text(new.posts[0].message)
    with ops_store.begin() as connection:
        assert open_findings(connection, UNDELIVERABLE) == ()

    office.deliver(3 * DAY)
    assert ("post", "pending") in office.states(), "as long as it goes on, the channel may come back"
    office.tick()
    office.tick(after=5 * MINUTE)
    office.deliver(MINUTE)
    office.deliver(DAY)
    assert {state for _, state in office.states()} == {"sent", "dead"}
    assert "RESOLVED" in plain_text(new.posts[0].message)
    with ops_store.begin() as connection:
        said = connection.execute(sa.select(alert_event.c.detail).where(alert_event.c.kind == "notice_dead")).scalars()
        assert "old: no such channel is configured, and its matter is over" in set(said)
        assert open_findings(connection, UNDELIVERABLE) == ()
    assert office.deliver(MINUTE).counts == {}


def test_a_channel_that_comes_back_shows_how_things_stand(office: Office, old: Channel, new: Channel) -> None:
    office.tick("a")
    office.deliver()
    _rename(office, new)
    office.tick("a", "b", after=5 * MINUTE)
    office.deliver()
    assert "b is late" not in plain_text(old.posts[0].message)
    _rename(office, old, new)
    office.deliver(MINUTE)
    (shown,), (other,) = old.posts, new.posts
    assert plain_text(shown.message) == plain_text(replace(other.message, note=""))


def _leave(office: Office, old: Channel, new: Channel) -> None:
    """The file has the new channel alone from now on; of the old one there still is a way to edit its messages."""
    _rename(office, new)
    office.sinks = replace(office.sinks, former=lambda name: old if name == "old" else None)


def test_a_message_in_a_channel_that_is_not_configured_any_more_says_once_where_it_is_told_now(
    office: Office, old: Channel, new: Channel
) -> None:
    office.tick("a", severity=Severity.PAGE)
    office.deliver()
    _leave(office, old, new)
    office.tick("a", severity=Severity.PAGE)
    assert office.deliver().counts == {"sent": 2}
    shown = plain_text(old.posts[0].message)
    assert "From now on told in new; this message stays as it is." in shown
    assert "From now on" not in plain_text(new.posts[0].message)
    office.tick("a", "b", after=5 * MINUTE, severity=Severity.PAGE)
    office.tick(after=5 * MINUTE)
    office.tick(after=5 * MINUTE)
    office.deliver()
    assert "RESOLVED" in plain_text(new.posts[0].message)
    assert plain_text(old.posts[0].message) == shown, "whoever took it out of the file wants nothing more in it"
    assert (len(old.posts), old.posts[0].replies) == (1, [])


@pytest.mark.parametrize("fault", [Fault.REJECTED, Fault.GONE])
def test_a_channel_that_is_really_gone_is_asked_once_and_nobody_is_told_of_it(
    office: Office, ops_store: OpsStore, old: Channel, new: Channel, fault: Fault
) -> None:
    office.tick("a")
    office.deliver()
    _leave(office, old, new)
    old.fault = lambda: fault
    office.tick("a")
    office.deliver()
    calls = old.calls
    office.deliver(MINUTE)
    assert (old.calls, len(old.posts), len(new.posts)) == (calls, 1, 1)
    with ops_store.begin() as connection:
        assert open_findings(connection, UNDELIVERABLE) == ()


def test_what_was_never_said_in_a_channel_is_not_said_there_once_it_is_taken_out(
    office: Office, old: Channel, new: Channel
) -> None:
    old.fault = lambda: Fault.REFUSED
    office.tick("a")
    office.deliver()
    _leave(office, old, new)
    old.fault = lambda: Fault.NONE
    office.tick("a")
    office.deliver(MINUTE)
    office.deliver(MINUTE)
    assert old.posts == []
    _rename(office, old, new)
    office.deliver(MINUTE)
    assert plain_text(old.posts[0].message) == plain_text(replace(new.posts[0].message, note=""))


def test_an_edit_that_waited_for_a_channel_becomes_its_farewell(office: Office, old: Channel, new: Channel) -> None:
    office.tick("a")
    office.deliver()
    old.fault = lambda: Fault.REFUSED
    office.tick("a", "b", after=5 * MINUTE)
    office.deliver()
    _leave(office, old, new)
    old.fault = lambda: Fault.NONE
    office.tick("a", "b")
    office.deliver(MINUTE)
    assert "From now on told in new" in plain_text(old.posts[0].message)


def test_only_a_channel_in_slack_says_where_it_went_and_only_while_there_is_a_token() -> None:
    sinks = build_sinks(_moved("#new"), load_alerts())
    assert sinks.former("mail:ann@example.com") is None
    (made,) = filter(None, [sinks.former("slack:#old")])
    assert made.name == "slack:#old"
    assert build_sinks(Settings(), load_alerts()).former("slack:#old") is None


def _moved(channel: str) -> Settings:
    return Settings(slack=SlackSettings(token=SecretStr("xoxb-1"), channel=channel))


def test_moving_the_main_channel_tells_what_is_open_in_the_new_one() -> None:
    config, asked = load_alerts(), finding("a")
    before, after = (policies_of(config, build_sinks(_moved(each), config)).options for each in ("#old", "#new"))
    world = World(before)
    (post,) = world.tick(asked)
    assert post.sink == "slack:#old"
    world.around = replace(world.around, options=after)
    again, _ = world.tick(asked)
    assert (again.op, again.sink) == (Op.POST, "slack:#new")
    assert again.message.note == "Here because slack:#old is not configured any more."


def test_a_main_channel_of_another_name_is_still_the_main_one(office: Office) -> None:
    config = load_alerts()
    sinks = build_sinks(_moved("#ops"), config)
    assert sinks.fallback["slack:#adinsights-data"] == "slack:#ops"
    assert reached(config, sinks)["slack:#adinsights-alerts"] == "slack:#ops"
    assert [each.sink for each in try_sinks(replace(sinks, by_name={}), a_message(), [MAIN_CHANNEL])] == ["slack:#ops"]
    channel = Channel("slack:#ops")
    channel.fault = lambda: Fault.REJECTED
    office.channels = (channel,)
    office.sinks = Sinks({channel.name: channel}, (channel.name,), main="slack:#ops")
    _route_to(office.world, channel.name)
    office.tick("a")
    office.deliver()
    with office.store.begin() as connection:
        (found,) = open_findings(connection, UNDELIVERABLE)
    assert (found.subject, found.detail[IS_MAIN]) == ("slack:#ops", True)


def test_a_deployment_knows_which_channels_it_has() -> None:
    settings = Settings()
    config = load_alerts(None)
    options = policies_of(config, build_sinks(settings, config)).options
    assert options.missing(("slack:#gone", "log")) == ("slack:#gone",)
