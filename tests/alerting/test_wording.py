"""What messages say: of what is over, of what gets worse, and to customers; in virtual time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from adinsights_orchestration.alerting.audience import noticed
from adinsights_orchestration.alerting.matching import Routes
from adinsights_orchestration.alerting.message import Severity
from adinsights_orchestration.alerting.telling.grouping import Escalation, Op, Options, Reason
from tests.alerting.support import NOON, World
from tests.alerting.test_notify import stale

FIVE = timedelta(minutes=5)
SECOND = timedelta(seconds=1)


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


def test_customers_are_told_what_is_over_and_what_still_is_so_when_they_are_told_again() -> None:
    world = World()
    late = {
        one: stale(one[0], tenant=one, rule="connection_failing", labels={"provider": "meta"})
        for one in ("acme", "globex")
    }
    world.tick(*late.values())
    less = world.tick(late["globex"], after=FIVE)[-1]
    assert (less.reason, less.message.impacts) == (
        Reason.LESS,
        ("Over: Meta figures of acme are not up to date.",),
    )
    again = world.tick(late["globex"], after=timedelta(hours=5))[-1]
    assert (again.reason, again.message.impacts) == (
        Reason.REPEAT,
        ("Still so: Meta figures of globex are not up to date.",),
    )
    assert world.tick(after=FIVE)[-1].message.impacts == ()


def test_what_other_alerts_still_make_customers_notice_is_not_called_over() -> None:
    world = World()
    failing = [stale(one, rule="dbt_failing") for one in "abc"]
    world.tick(*failing)
    less = world.tick(*failing[1:], after=FIVE)[-1]
    assert less.reason is Reason.LESS
    assert less.message.impacts == ("Still so: Some dashboards do not show the newest figures.",)


def test_an_escalation_tells_customers_what_still_is_so_and_a_long_list_is_counted() -> None:
    step = Escalation(FIVE, Routes(("lead",)))
    world = World(Options(Routes(("main",)), escalation=(step,)))
    labels = {"provider": "meta"}
    late = [
        stale(
            f"{n}", Severity.PAGE, tenant=f"t{n:02}", rule="connection_failing", labels=labels, since=NOON + n * SECOND
        )
        for n in range(12)
    ]
    world.tick(*late)
    (line,) = [each for each in world.tick(*late, after=timedelta(minutes=6)) if each.op is Op.REPLY]
    assert line.reason is Reason.ESCALATED
    assert line.message.impacts[0] == "Still so: Meta figures of t00 are not up to date."
    assert (len(line.message.impacts), line.message.more_impacts) == (10, 2)


@pytest.mark.parametrize("rule", ["no_fresh_rows", "availability_burning", "api_error_rate", "dashboards_stale"])
def test_a_page_of_what_customers_see_says_what_they_notice(rule: str) -> None:
    assert noticed(rule, {}), "Marketing Operations reads that, and gets nothing where there is nothing to read"
