"""The second channel: what one does not take, another says, whole, once, and with the reason."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from threading import Thread

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from adinsights_orchestration.alerting.bookkeeping.rows import load_groups
from adinsights_orchestration.alerting.bookkeeping.upkeep import UNDELIVERABLE
from adinsights_orchestration.alerting.delivery import deliver
from adinsights_orchestration.alerting.matching import Routes
from adinsights_orchestration.alerting.message import Severity, Standing, plain_text
from adinsights_orchestration.alerting.telling.grouping import Escalation, Options
from adinsights_orchestration.clock import TickClock
from adinsights_orchestration.ops_store.alert_tables import alert_group, alert_outbox
from adinsights_orchestration.ops_store.findings import open_findings
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import OpsStoreSettings
from tests.alerting.channel import Channel, Fault
from tests.alerting.office import Office
from tests.alerting.support import finding
from tests.conftest import PostgresServer

MINUTE = timedelta(minutes=1)
GROUPS = ("apples", "Berries")


@pytest.fixture
def office(ops_store: OpsStore) -> Office:
    """Two channels, of which the second stands in for the first."""
    return Office(ops_store, Channel("first"), Channel("second"), fallback={"first": "second"})


def test_what_a_channel_refuses_for_good_goes_to_the_second_which_says_so(office: Office, ops_store: OpsStore) -> None:
    first, second = office.channels
    first.fault = lambda: Fault.REJECTED
    office.tick("a")
    office.deliver()
    office.deliver()
    (shown,) = second.posts
    assert shown.message.note == "Here because first does not take it: channel_archived."
    office.tick()
    office.tick(after=5 * MINUTE)
    office.deliver()
    office.deliver()
    assert "RESOLVED" in plain_text(shown.message)
    assert len(shown.replies) == 1
    assert first.posts == []
    with ops_store.begin() as connection:
        assert [one.subject for one in open_findings(connection, UNDELIVERABLE)] == ["first"]


def test_a_channel_that_is_lost_in_the_middle_of_a_matter_leaves_all_of_it_to_the_second(office: Office) -> None:
    first, second = office.channels
    office.tick("a")
    office.deliver()
    first.fault = lambda: Fault.REJECTED
    office.tick("a", severity=Severity.PAGE)
    for _ in range(3):
        office.deliver(MINUTE)
    (shown,) = second.posts
    assert (shown.message.severity, shown.message.title) == (Severity.PAGE, "a is late")
    assert shown.message.note == "Here because first does not take it: channel_archived."
    office.tick("a", "b", severity=Severity.PAGE)
    office.tick(after=5 * MINUTE)
    for _ in range(3):
        office.deliver(MINUTE)
    assert second.posts == [shown]
    assert shown.message.standing is Standing.RESOLVED
    said = [reply.lines[0].partition(" UTC: ")[2].partition(" ")[0] for _, reply in shown.replies]
    assert said[-2:] == ["New:", "Resolved"]


@pytest.mark.parametrize("fault", [Fault.REJECTED, Fault.REFUSED])
def test_a_second_channel_that_has_the_message_is_not_told_it_again(office: Office, fault: Fault) -> None:
    first, second = office.channels
    first.fault = lambda: Fault.REFUSED
    office.tick("a")
    office.deliver()
    office.world.around = replace(office.world.around, options=Options(Routes(("first", "second"))))
    office.tick("a", "b", after=5 * MINUTE)
    office.deliver()
    (shown,) = second.posts
    first.fault = lambda: fault
    for _ in range(12):
        office.deliver(MINUTE)
    assert second.posts == [shown]
    assert shown.message.note == ""
    assert first.posts == []


def test_what_is_over_when_its_channel_is_lost_is_no_news_to_the_second(office: Office) -> None:
    first, second = office.channels
    office.tick("a")
    office.deliver()
    first.fault = lambda: Fault.REJECTED
    office.tick(after=5 * MINUTE)
    for _ in range(3):
        office.deliver(MINUTE)
    assert second.posts == []


def test_what_a_channel_does_not_take_for_long_is_said_by_the_second_too(office: Office) -> None:
    first, second = office.channels
    first.fault = lambda: Fault.REFUSED
    office.tick("a")
    for _ in range(15):
        office.deliver(MINUTE)
    (shown,) = second.posts
    assert shown.message.note.startswith("Here because first has not taken it since 12:01")
    first.fault = lambda: Fault.NONE
    for _ in range(6):
        office.deliver(MINUTE)
    assert len(first.posts) == 1, "it is told there as well"
    office.tick(after=5 * MINUTE)
    office.deliver()
    assert {"RESOLVED" in plain_text(each.posts[0].message) for each in (first, second)} == {True}


def test_what_gets_worse_while_its_channel_takes_nothing_is_said_by_the_second_and_its_end_too(office: Office) -> None:
    first, second = office.channels
    office.tick("a")
    assert office.deliver().counts == {"sent": 1}
    first.fault = lambda: Fault.REFUSED
    office.tick("a", severity=Severity.PAGE)
    for _ in range(15):
        office.deliver(MINUTE)
    (shown,) = second.posts
    assert (shown.message.severity, shown.message.title) == (Severity.PAGE, "a is late")
    assert shown.message.note == "Here because first has not taken it since 12:02 UTC."
    office.tick("a", "b", severity=Severity.PAGE)
    for _ in range(15):
        office.deliver(MINUTE)
    assert [reply.lines[0][-16:] for _, reply in shown.replies] == [" New: b is late."], (
        "told there, and not posted again"
    )
    first.fault = lambda: Fault.NONE
    office.tick(after=5 * MINUTE)
    for _ in range(6):
        office.deliver(MINUTE)
    assert [shown.message.standing for shown in (*first.posts, *second.posts)] == [Standing.RESOLVED] * 2
    assert [reply.lines[0].partition(" UTC: ")[2].partition(" ")[0] for _, reply in first.posts[0].replies] == [
        "Worse,",
        "New:",
        "Resolved",
    ]


def test_what_is_over_before_the_second_channel_takes_over_is_not_said_there(office: Office) -> None:
    first, second = office.channels
    office.tick("a")
    office.deliver()
    first.fault = lambda: Fault.REFUSED
    office.tick("a", severity=Severity.PAGE)
    office.deliver(MINUTE)
    office.tick(after=5 * MINUTE)
    for _ in range(20):
        office.deliver(MINUTE)
    assert second.posts == []


@pytest.mark.parametrize("fault", [Fault.REJECTED, Fault.REFUSED])
@pytest.mark.parametrize("had_it", [False, True])
def test_a_second_channel_that_is_told_of_it_anyway_as_the_next_contact_is_told_once(
    office: Office, fault: Fault, had_it: bool
) -> None:
    first, second = office.channels
    options = Options(Routes(("first",)), escalation=(Escalation(10 * MINUTE, Routes(("second",))),))
    office.world.around = replace(office.world.around, options=options)
    if not had_it:
        first.fault = lambda: Fault.REFUSED
    office.tick("a", severity=Severity.PAGE)
    office.deliver()
    first.fault = lambda: fault
    office.tick("a", severity=Severity.PAGE, after=10 * MINUTE)
    for only in (["first"], None):  # what the first does not take is handed over before the second was asked
        deliver.run(office.store, office.sinks, TickClock(office.world.now, 40.0, lambda: 0.0), only)
    for _ in range(20):
        office.deliver(MINUTE)
    (shown,) = second.posts
    assert shown.message.note == "Nobody has acknowledged it: the next contact is told."
    office.tick(after=5 * MINUTE)
    for _ in range(3):
        office.deliver(MINUTE)
    assert second.posts == [shown]
    assert shown.message.standing is Standing.RESOLVED


def test_how_long_a_channel_may_take_nothing_is_configured(office: Office) -> None:
    first, second = office.channels
    office.sinks = replace(office.sinks, fallback_after=3 * MINUTE)
    first.fault = lambda: Fault.REFUSED
    office.tick("a")
    for _ in range(3):
        office.deliver(MINUTE)
    assert second.posts == []
    office.deliver(MINUTE)
    assert len(second.posts) == 1


def test_a_second_channel_takes_over_in_its_time_though_a_clock_was_set_back(ops_store: OpsStore) -> None:
    main, second = Channel("main"), Channel("second")
    main.fault = lambda: Fault.REFUSED
    office = Office(ops_store, main, second, fallback={"main": "second"})
    office.tick("a")
    office.deliver()
    office.world.now -= timedelta(days=1)
    office.deliver()
    office.deliver(11 * MINUTE)
    assert len(second.posts) == 1


def test_an_answer_whose_message_is_not_kept_any_more_is_buried_and_stops_nothing(
    office: Office, ops_store: OpsStore
) -> None:
    first, second = office.channels
    office.tick("a")
    office.deliver()
    first.fault = lambda: Fault.REJECTED
    office.tick("a", severity=Severity.PAGE)
    with ops_store.begin() as connection:
        connection.execute(sa.delete(alert_outbox).where(alert_outbox.c.op != "reply"))
    office.deliver(MINUTE)
    assert office.states() == [("reply", "dead")]
    assert second.posts == []


@dataclass
class Crossing:
    """A take-over and an evaluation that want the same two groups at one moment, each in a thread of its own."""

    office: Office
    taken_over: int = 0
    errors: list[Exception] = field(default_factory=list)

    def run(self, last: str) -> None:
        """Lets both begin while somebody else holds the group that Postgres puts last, then lets that one go."""
        with _elsewhere(self.office.store) as elsewhere, _elsewhere(self.office.store) as watching:
            with elsewhere.begin() as connection:
                locked = sa.select(alert_group.c.key).where(alert_group.c.key == last).with_for_update()
                assert connection.execute(locked).scalar_one() == last
                threads = [Thread(target=self._safely, args=(work,)) for work in (self._take_over, self._evaluate)]
                for number, thread in enumerate(threads, start=1):
                    thread.start()
                    _wait_for_locks(watching, number)
            for thread in threads:
                thread.join(timeout=30)
                assert not thread.is_alive(), "it waits for ever"

    def _take_over(self) -> None:
        self.taken_over = self.office.deliver(15 * MINUTE).counts["taken_over"]

    def _evaluate(self) -> None:
        """Locks what an evaluation locks."""
        with self.office.store.begin() as connection:
            assert len(load_groups(connection, GROUPS)) == 2

    def _safely(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001  (the test says that there was none)
            self.errors.append(error)


@contextmanager
def _elsewhere(store: OpsStore) -> Iterator[OpsStore]:
    """Connections that no other session waits for."""
    other = OpsStore(OpsStoreSettings(dsn=SecretStr(store.engine.url.render_as_string(hide_password=False))))
    yield other
    other.dispose()


def _wait_for_locks(store: OpsStore, sessions: int) -> None:
    """Returns once so many sessions of this database wait for a lock."""
    query = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    for _ in range(1000):
        with store.begin() as connection:
            if connection.execute(sa.text(query)).scalar_one() == sessions:
                return
        time.sleep(0.01)
    raise AssertionError(f"{sessions} sessions never waited")


def cross(store: OpsStore, earlier: str, ordered: list[str]) -> None:
    """Two groups whose messages are late, the one that is named since earlier; then both are wanted at once."""
    first, second = Channel("first"), Channel("second")
    office = Office(store, first, second, fallback={"first": "second"})
    first.fault = lambda: Fault.REFUSED
    findings = {key: finding(key, rule=key) for key in GROUPS}
    office.tick(findings[earlier])
    office.deliver()
    office.tick(*findings.values())
    office.deliver()
    with store.begin() as connection:
        query = sa.select(alert_group.c.key).order_by(alert_group.c.key)
        assert list(connection.execute(query).scalars()) == ordered
    crossing = Crossing(office)
    crossing.run(last=ordered[-1])
    assert crossing.errors == []
    assert crossing.taken_over == len(second.posts) == 2


@pytest.mark.parametrize("earlier", GROUPS)
def test_a_take_over_and_an_evaluation_never_wait_for_each_other_whatever_was_late_first(
    ops_store: OpsStore, earlier: str
) -> None:
    cross(ops_store, earlier, ["Berries", "apples"])


@pytest.mark.parametrize("earlier", GROUPS)
def test_nor_do_they_where_postgres_has_another_order_of_texts_than_python(
    postgres_15_server: PostgresServer, earlier: str
) -> None:
    store = OpsStore(OpsStoreSettings(dsn=SecretStr(postgres_15_server.create_database("ops"))))
    store.migrate()
    with store.begin() as connection:
        connection.execute(sa.text('alter table adinsights_ops.alert_group alter key type text collate "und-x-icu"'))
    cross(store, earlier, ["apples", "Berries"])
    store.dispose()
