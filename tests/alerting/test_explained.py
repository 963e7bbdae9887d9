"""What is said of what was explained by something in the same message, once that is over; in virtual time."""

from __future__ import annotations

from datetime import timedelta

from adinsights_orchestration.alerting.inhibition import Inhibition
from adinsights_orchestration.alerting.matching import Matcher, Silence
from adinsights_orchestration.alerting.model import Finding
from adinsights_orchestration.alerting.telling.grouping import Op, Options
from tests.alerting.support import NOON, World, finding
from tests.alerting.test_notify import FIVE, GROUP, MAIN, stale


def in_one_message() -> tuple[World, Finding, Finding]:
    """A world in which a connection is late that is switched off, both in one message."""
    rule = Inhibition((Matcher.parse("rule=connection_disabled"),), (Matcher.parse("rule=connection_stale"),))
    world = World(Options(MAIN, inhibitions=(rule,)))
    return world, finding("a", rule="connection_disabled", title="a is switched off", group=GROUP), stale("a")


def lines(world: World) -> list[str]:
    """What the stories said, without the moments."""
    return [each.message.lines[0].partition(": ")[2] for each in world.orders if each.op is Op.REPLY]


def test_a_message_is_not_resolved_while_it_waits_whether_what_its_cause_explained_recovers() -> None:
    world, cause, effect = in_one_message()
    world.tick(cause, effect)
    world.tick(cause, effect, after=FIVE)
    world.tick(effect, after=timedelta(minutes=4))
    world.tick(effect, after=timedelta(minutes=4))
    assert lines(world) == []
    world.tick(effect, after=FIVE)
    assert lines(world) == ["New: a is late. Over: a is switched off."], "it did not recover"
    world.tick(after=FIVE)
    assert lines(world)[1:] == ["Resolved after 24 min."]


def test_a_message_is_resolved_once_what_its_cause_explained_has_recovered_too() -> None:
    world, cause, effect = in_one_message()
    world.tick(cause, effect)
    world.tick(effect, after=FIVE)
    world.tick(after=timedelta(minutes=2))
    world.tick(after=FIVE)
    assert lines(world) == ["Resolved after 6 min."], "which is when what was told of was over"
    assert all(world.tick(after=FIVE) == [] for _ in range(3))


def test_what_was_told_and_is_explained_in_its_own_message_for_a_while_is_no_news_afterwards() -> None:
    world, cause, effect = in_one_message()
    world.tick(effect)
    world.tick(cause, effect, after=FIVE)
    world.tick(effect, after=FIVE)
    world.tick(effect, after=FIVE)
    assert lines(world) == ["New: a is switched off.", "Over: a is switched off; 1 left."]


def test_an_end_that_leaves_only_what_is_silenced_says_that_it_goes_on() -> None:
    silence = Silence(1, (Matcher.parse("resource=b"),), NOON, NOON + timedelta(hours=9), "ann", "moving")
    world = World(silences=[silence])
    world.tick(stale("a"), stale("b"))
    world.tick(stale("b"), after=FIVE)
    assert lines(world) == ["Over: a is late; 1 kept quiet: silenced."]
