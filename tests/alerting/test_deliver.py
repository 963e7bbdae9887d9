"""Delivery over a real Postgres: every outcome of a request, and every order of two deliveries."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from adinsights_orchestration.alerting.bookkeeping import outbox
from adinsights_orchestration.alerting.bookkeeping.rows import opened_within, save_groups
from adinsights_orchestration.alerting.channels.sinks import LogSink, Notice, Outcome, Sinks, Traits
from adinsights_orchestration.alerting.delivery import deliver
from adinsights_orchestration.alerting.delivery.deliver import Delivered
from adinsights_orchestration.alerting.matching import Routes
from adinsights_orchestration.alerting.message import plain_text
from adinsights_orchestration.alerting.telling.grouping import Op, Options
from adinsights_orchestration.clock import TickClock
from adinsights_orchestration.ops_store.store import OpsStore
from tests.alerting.channel import Channel, Fault
from tests.alerting.office import Office
from tests.alerting.support import NOON, World, finding

MINUTE = timedelta(minutes=1)


@pytest.fixture
def channel() -> Channel:
    return Channel()


@pytest.fixture
def office(ops_store: OpsStore, channel: Channel) -> Office:
    return Office(ops_store, channel)


def _once(channel: Channel, *faults: Fault) -> None:
    left = list(faults)
    channel.fault = lambda: left.pop(0) if left else Fault.NONE


def test_a_message_is_posted_edited_and_answered_in_order(office: Office, channel: Channel) -> None:
    office.tick("a")
    assert office.deliver().counts == {"sent": 1}
    office.tick()
    office.tick(after=5 * MINUTE)
    assert office.deliver().counts == {"sent": 2}
    (shown,) = channel.posts
    assert "RESOLVED" in plain_text(shown.message)
    assert [message.lines[0][-22:] for _, message in shown.replies] == [" Resolved after 2 min."]
    assert office.deliver().counts == {}


@pytest.mark.parametrize("fault", [Fault.REPLY_LOST, Fault.REQUEST_LOST, Fault.APPLIED_LATE])
def test_a_post_without_an_answer_is_looked_up_and_there_once(office: Office, channel: Channel, fault: Fault) -> None:
    _once(channel, fault)
    office.tick("a")
    assert office.deliver().counts == {"uncertain": 1}
    assert office.deliver(MINUTE / 6).counts == {}, "what may still arrive is not asked for yet"
    assert sum(office.deliver(MINUTE / 4).counts.values()) == 1
    assert len(channel.posts) == 1
    assert office.states() == [("post", "sent")]


def test_a_reply_without_an_answer_is_looked_up_in_its_thread(office: Office, channel: Channel) -> None:
    office.tick("a")
    office.deliver()
    office.tick("a", "b", after=5 * MINUTE)
    _once(channel, Fault.NONE, Fault.REPLY_LOST)
    office.deliver()
    assert office.deliver(MINUTE).counts == {"found": 1}
    assert len(channel.posts[0].replies) == 1


def test_an_edit_that_failed_for_a_moment_is_never_a_second_message(office: Office, channel: Channel) -> None:
    office.tick("a")
    office.deliver()
    office.tick()
    _once(channel, Fault.REFUSED, Fault.REPLY_LOST, Fault.REQUEST_LOST)
    for _ in range(6):
        office.deliver(MINUTE)
    assert len(channel.posts) == 1
    assert "RESOLVED" in plain_text(channel.posts[0].message)


def test_a_message_that_somebody_deleted_is_posted_anew_and_answers_go_there(office: Office, channel: Channel) -> None:
    office.tick("a")
    office.deliver()
    office.tick("a", "b", after=5 * MINUTE)
    _once(channel, Fault.GONE)
    office.deliver()
    assert [len(shown.replies) for shown in channel.posts] == [0, 1]


def test_a_channel_that_asks_for_patience_is_left_alone_and_nothing_waits_in_the_process(
    office: Office, channel: Channel
) -> None:
    _once(channel, Fault.BUSY)
    office.tick("a")
    assert office.deliver().counts == {"later": 1}
    before = channel.calls
    assert office.deliver(timedelta(seconds=6)).counts == {}
    assert channel.calls == before
    assert office.deliver(timedelta(seconds=1)).counts == {"sent": 1}


def test_edits_that_wait_become_one(office: Office, channel: Channel) -> None:
    office.tick("a")
    for number in range(1, 30):
        office.tick(*"abcdefghij"[: number % 10 + 1])
    office.deliver()
    edits = [state for state in office.states() if state[0] == "update"]
    assert edits == [], "the message that waits says how it is now"
    assert len(channel.posts) == 1
    assert channel.posts[0].message.title == "10 connections stale"


def test_an_allowance_is_kept_over_deliveries_and_pages_go_first(ops_store: OpsStore) -> None:
    channel = Channel(traits=Traits(every=timedelta(seconds=1), burst=3))
    office = Office(ops_store, channel)
    for number in range(6):
        office.world.tick(after=timedelta(0))
        orders = office.world.tick(
            *(finding(f"r{n}", rule=f"rule{n}") for n in range(number + 1)), after=timedelta(seconds=1)
        )
        with ops_store.begin() as connection:
            outbox.enqueue(connection, [each for each in orders if each.op is Op.POST], office.world.now)
    assert office.deliver().counts == {"sent": 3}
    assert office.deliver().counts == {}
    assert office.deliver(timedelta(seconds=2)).counts == {"sent": 2}


def test_a_delivery_begins_nothing_that_could_outlast_its_budget(office: Office, channel: Channel) -> None:
    office.tick("a")
    done = office.deliver(budget=19.0)
    assert (done.left, channel.calls) == (True, 0)


def test_two_deliveries_at_once_send_nothing_twice(ops_store: OpsStore, channel: Channel) -> None:
    office = Office(ops_store, channel)
    office.tick("a")
    inner: list[Delivered] = []
    real = channel.post

    def post_while_another_delivers(notice: Notice) -> Outcome:
        if not inner:
            inner.append(office.deliver())
        return real(notice)

    channel.post = post_while_another_delivers  # type: ignore[method-assign]
    assert office.deliver().counts == {"sent": 1}
    assert inner[0].counts == {}
    assert len(channel.posts) == 1


def test_an_attempt_that_lost_its_claim_records_nothing(ops_store: OpsStore, channel: Channel) -> None:
    office = Office(ops_store, channel)
    office.tick("a")
    with ops_store.begin() as connection:
        first = outbox.claim(connection, "main", channel.traits, office.world.now)
    later = office.world.now + 2 * MINUTE
    with ops_store.begin() as connection:
        second = outbox.claim(connection, "main", channel.traits, later)
    assert first is not None
    assert second is not None
    assert second.may_have_arrived
    with ops_store.begin() as connection:
        assert not outbox.sent(connection, first, "x", later)
        assert outbox.sent(connection, second, "y", later)


def test_a_sink_that_raises_stops_no_other_one_and_is_asked_again(
    ops_store: OpsStore, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails() -> Fault:
        raise TypeError("a secret")

    broken, other = Channel("broken"), Channel("other")
    office = Office(ops_store, broken, other)
    office.world = World(Options(Routes(("broken", "other"))))
    broken.fault = fails
    office.tick("a")
    office.deliver()
    office.deliver(MINUTE)
    assert len(other.posts) == 1
    logged = capsys.readouterr().out
    assert "TypeError" in logged
    assert "a secret" not in logged
    broken.fault = lambda: Fault.NONE
    office.deliver(MINUTE)
    assert len(broken.posts) == 1


def test_without_any_channel_alerts_are_lines_of_the_log(ops_store: OpsStore, caplog: pytest.LogCaptureFixture) -> None:
    world = World(Options(Routes(("log",))))
    with ops_store.begin() as connection:
        outbox.enqueue(connection, world.tick(finding("acme-meta")), NOON)
    done = deliver.run(ops_store, Sinks({"log": LogSink()}, ("log",)), TickClock(NOON, 40.0, lambda: 0.0))
    assert done.counts == {"sent": 1}


def test_four_deliveries_in_parallel_send_each_of_many_messages_once(ops_store: OpsStore, channel: Channel) -> None:
    world = World(Options(Routes(("main",)), storm=None))
    with ops_store.begin() as connection:
        orders = world.tick(*(finding(f"r{n}", rule=f"rule{n}") for n in range(60)))
        save_groups(connection, list(world.groups.values()))
        outbox.enqueue(connection, orders, world.now)
    sinks = Sinks({"main": channel}, ("main",))

    def work() -> Delivered:
        return deliver.run(ops_store, sinks, TickClock(world.now, 40.0))

    with ThreadPoolExecutor(4) as pool:
        done = [future.result() for future in [pool.submit(work) for _ in range(4)]]
    assert sorted(shown.message.group for shown in channel.posts) == sorted(order.group for order in orders)
    assert sum(each.counts["sent"] for each in done) == 60


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.BUSY, Fault.REPLY_LOST, Fault.REQUEST_LOST])
def test_what_waits_while_a_clock_is_set_back_by_a_day_is_said_within_a_minute_and_once(
    office: Office, channel: Channel, fault: Fault
) -> None:
    _once(channel, fault)
    office.tick("a")
    office.deliver()
    assert office.states()[0][1] in outbox.UNSENT
    office.world.now -= timedelta(days=1)
    for shown in channel.posts:
        shown.at = office.world.now  # a channel's own clock was right all along
    office.deliver()
    office.deliver(MINUTE)
    assert len(channel.posts) == 1
    assert office.states() == [("post", "sent")]


def test_a_claim_of_a_clock_that_was_ahead_keeps_its_lease_and_no_more(office: Office, channel: Channel) -> None:
    office.tick("a")
    with office.store.begin() as connection:
        claimed = outbox.claim(connection, channel.name, channel.traits, office.world.now)
    assert claimed is not None
    office.world.now -= timedelta(days=1)
    assert office.deliver().counts == {}, "whoever claimed it may be sending"
    office.deliver(outbox.lease(channel.traits))
    assert len(channel.posts) == 1


def test_messages_that_a_clock_opened_while_it_was_ahead_do_not_use_up_a_storms_room(office: Office) -> None:
    office.tick("a")
    now, day, within = office.world.now, timedelta(days=1), 10 * MINUTE
    with office.store.begin() as connection:
        assert opened_within(connection, now - within, now) == 1
        assert opened_within(connection, now - day - within, now - day) == 0
