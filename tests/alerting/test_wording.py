"""What messages say: of what is over, of what gets worse, and to customers; in virtual time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from adinsights_orchestration.alerting.message import Severity
from adinsights_orchestration.alerting.telling.grouping import Reason
from tests.alerting.support import World
from tests.alerting.test_notify import stale

FIVE = timedelta(minutes=5)


def test_what_is_over_says_so_in_its_title_for_how_long_it_was_and_what_it_was_at_its_worst() -> None:
    world = World()
    world.tick(stale("a", title="Airbyte is not well"))
    world.tick(stale("a", Severity.PAGE, title="Airbyte is down"))
    world.tick(stale("a", title="Airbyte is not well again"))
    edit, line = world.tick(after=timedelta(minutes=9))
    assert (edit.message.title, edit.message.severity) == ("Over after 12 min: Airbyte is down", Severity.PAGE)
    assert (line.message.title, line.message.ended) == (edit.message.title, edit.message.ended)


def test_what_grew_and_is_over_is_called_what_it_was_when_it_was_most() -> None:
    world = World()
    world.tick(stale("a"))
    world.tick(stale("a"), stale("b"), after=FIVE)
    world.tick(stale("b"))
    (edit,) = world.tick()
    assert (edit.message.title, edit.message.lines) == (
        "Over after 8 min: 2 connections stale",
        ("At most 2 at once.",),
    )


def test_a_line_says_whom_it_pages_now_and_what_is_new_and_over_beside_it() -> None:
    world = World()
    owner: dict[str, Any] = {"owner": "data-eng@example.com"}
    world.tick(stale("a", **owner), stale("c", **owner))
    line = world.tick(stale("a", Severity.PAGE, **owner), stale("b", **owner), after=FIVE)[-1]
    assert line.message.lines[0].partition(" UTC: ")[2] == (
        "Worse, now a page for Data Engineering: a is late. New: b is late. Over: c is late."
    )
    assert (line.reason, line.message.broadcast, line.message.owner) == (Reason.MORE, True, "Data Engineering")


def test_the_first_page_that_joins_a_warning_is_seen_outside_the_thread_and_further_ones_are_not() -> None:
    world = World()
    pages = [stale(name, Severity.PAGE) for name in "bc"]
    world.tick(stale("a"))
    shown = [world.tick(stale("a"), *pages[:number], after=FIVE)[-1].message for number in (1, 2)]
    assert [(each.broadcast, each.alarms) for each in shown] == [(True, True), (False, True)]
    assert not world.tick(*pages, after=FIVE)[-1].message.alarms, "what is over is no alarm"


def test_customers_are_told_what_a_line_tells_of() -> None:
    world = World()
    late: dict[str, Any] = {"rule": "connection_failing", "labels": {"provider": "meta"}}
    world.tick(stale("a", tenant="acme", **late))
    line = world.tick(*(stale(one[0], tenant=one, **late) for one in ("acme", "globex")), after=FIVE)[-1]
    assert line.message.impacts == ("Meta figures of globex are not up to date.",)
