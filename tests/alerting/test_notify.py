"""Who is told what, when: grouping, inhibition, silences, repeats, escalation, storms, in virtual time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import time, timedelta
from typing import Any

import pytest

from adinsights_orchestration.alerting.inhibition import Graph, Inhibition
from adinsights_orchestration.alerting.matching import Hours, Matcher, Route, Routes, Silence
from adinsights_orchestration.alerting.message import Severity, Standing, plain_text
from adinsights_orchestration.alerting.model import Finding
from adinsights_orchestration.alerting.telling.grouping import Escalation, Op, Options, Reason, Storm, Timing
from adinsights_orchestration.errors import ConfigurationError
from adinsights_orchestration.topology.model import Asset, Topology
from tests.alerting.support import NOON, World, finding

MAIN = Routes(("main",))
FIVE = timedelta(minutes=5)
GROUP = ("freshness", "meta")


def stale(resource: str, severity: Severity = Severity.WARN, **fields: Any) -> Finding:
    return finding(resource, severity, group=GROUP, **fields)


def test_one_matter_is_one_message_that_is_edited_and_one_line_when_it_is_over() -> None:
    world = World()
    (post,) = world.tick(stale("a"))
    assert (post.op, post.episode, post.seq, post.message.standing) == (Op.POST, 1, 1, Standing.FIRING)
    assert world.tick(stale("a")) == []
    (edit,) = world.tick()
    assert (edit.op, edit.message.standing) == (Op.UPDATE, Standing.RESOLVED)
    assert world.tick() == []
    (line,) = world.tick(after=FIVE)
    assert (line.op, line.reason, line.message.lines[0][-22:]) == (Op.REPLY, Reason.RESOLVED, " Resolved after 3 min.")
    assert all(world.tick(after=FIVE) == [] for _ in range(3))


def test_a_thousand_tenants_at_once_are_one_message_that_is_edited_as_it_grows_and_shrinks() -> None:
    world = World()
    many = [stale(f"t{number:04}", tenant=f"t{number:04}") for number in range(1000)]
    (post,) = world.tick(*many)
    assert post.message.title == "1,000 connections stale"
    assert (len(post.message.items), post.message.more) == (10, 990)
    assert [each.op for each in world.tick(*many, stale("one more"))] == [Op.UPDATE]
    assert [each.op for each in world.tick(*many[:400])] == [Op.UPDATE]
    assert [each.message.more for each in world.orders if each.op is Op.UPDATE] == [991, 390]
    assert {each.episode for each in world.orders} == {1}


def test_a_group_speaks_at_most_once_in_its_interval_however_often_its_incidents_come_and_go() -> None:
    world = World()
    for minute in range(20):
        world.tick(*([stale("a")] if minute % 2 else [stale("b")]))
    assert len(world.said()) <= 1 + 20 / 5


def test_what_comes_back_before_its_end_was_told_is_not_told_at_all() -> None:
    world = World()
    world.tick(stale("a"))
    world.tick()
    world.tick(stale("a"))
    world.tick(stale("a"), after=FIVE)
    assert world.said() == [("post", "first")]


def test_the_next_occurrence_is_a_message_of_its_own() -> None:
    world = World()
    world.tick(stale("a"))
    world.tick(after=FIVE)
    world.tick(after=FIVE)
    world.tick(stale("a"), after=FIVE)
    assert [(each.episode, each.op) for each in world.orders if each.op is Op.POST] == [(1, Op.POST), (2, Op.POST)]


def test_no_data_is_said_in_the_message_and_ends_nothing() -> None:
    world = World()
    world.tick(stale("a"))
    (edit,) = world.tick(blind=True)
    assert (edit.op, edit.message.standing) == (Op.UPDATE, Standing.FIRING)
    assert "No data: since" in plain_text(edit.message)
    assert world.tick(blind=True, after=FIVE) == []


def test_what_is_not_acknowledged_is_told_again_and_what_is_acknowledged_is_not() -> None:
    world = World(Options(MAIN, Timing(repeat_interval=timedelta(hours=1))))
    world.tick(stale("a"))
    world.tick(stale("a"), after=timedelta(minutes=61))
    assert world.said()[-1] == ("reply", "repeat")
    world.ack("a")
    (edit,) = world.tick(stale("a"))
    assert (edit.message.standing, edit.message.lines) == (Standing.ACKNOWLEDGED, ("Acknowledged by ann.",))
    assert [world.tick(stale("a"), after=timedelta(hours=2)) for _ in range(3)] == [[], [], []]


def test_a_reminder_shows_the_ages_of_now_in_the_message_that_it_calls_people_back_to() -> None:
    world = World(Options(MAIN, Timing(repeat_interval=timedelta(hours=1))))
    late = stale("a", last_success=NOON)
    world.tick(late)
    edit, reply = world.tick(late, after=timedelta(minutes=61))
    assert (edit.op, edit.reason, reply.op) == (Op.UPDATE, Reason.REPEAT, Op.REPLY)
    assert "2026-03-10 12:00 UTC, 1 h 2 min ago" in plain_text(edit.message)
    assert world.tick(late) == []


def test_getting_worse_is_told_at_once_to_everybody_and_undoes_the_acknowledgement() -> None:
    world = World()
    world.tick(stale("a"))
    world.ack("a")
    world.tick(stale("a"))
    edit, line = world.tick(stale("a", Severity.PAGE))
    assert (edit.op, edit.message.standing, edit.message.severity) == (Op.UPDATE, Standing.FIRING, Severity.PAGE)
    assert (line.op, line.reason, line.message.broadcast) == (Op.REPLY, Reason.WORSENED, True)
    assert world.tick(stale("a", Severity.WARN)) != [], "the message says that it eased"
    assert world.said()[-1] == ("reply", "worsened")


def test_an_acknowledgement_does_not_cover_what_joins_later() -> None:
    world = World()
    world.tick(stale("a"))
    world.ack("a")
    world.tick(stale("a"), stale("b"), after=FIVE)
    assert world.said()[-1] == ("reply", "more")
    assert world.orders[-1].message.standing is Standing.FIRING


TOPOLOGY = Topology(
    "pipelines",
    (
        Asset("airbyte/meta"),
        Asset("raw/meta", upstream=("airbyte/meta",)),
        Asset("marts/campaign", upstream=("raw/meta",)),
        Asset("dash/spend", upstream=("marts/campaign",)),
    ),
)


def test_a_stale_sync_explains_its_tenants_stale_dashboard_and_nobody_elses() -> None:
    world = World(graph=Graph(TOPOLOGY))
    cause = finding("acme-meta", tenant="acme", asset="airbyte/meta")
    own, other = (
        finding(f"{t}-dash", rule="dashboard_stale", tenant=t, asset="dash/spend", is_symptom=True)
        for t in ("acme", "bravo")
    )
    world.tick(cause, own, other)
    posts = {each.group: each.message for each in world.orders}
    assert posts["connection_stale"].lines == ("Explains 1 further: 1 dashboard stale.",)
    assert [item.tenant for item in posts["dashboard_stale"].items] == ["bravo"]
    assert posts["dashboard_stale"].lines == ("1 kept quiet: explained.",)


def opened(world: World) -> list[str]:
    """Groups whose first message the last tick ordered."""
    assert world.after is not None
    return [each.group for each in world.after.orders if each.op is Op.POST]


AT_ONCE = Options(MAIN, Timing(group_interval=timedelta(seconds=1)))  # a group may speak in every tick


def explained_and_released() -> tuple[World, Callable[..., Finding]]:
    """A world in which a cause has just ended, and its symptom has not."""
    world = World(AT_ONCE, graph=Graph(TOPOLOGY))
    cause = finding("airbyte", rule="component_down", severity=Severity.PAGE, explains=("airbyte/meta",))

    def effect(severity: Severity = Severity.WARN) -> Finding:
        return finding("acme-meta", severity, tenant="acme", asset="airbyte/meta", is_symptom=True)

    world.tick(cause, effect())
    assert world.said() == [("post", "first")]
    world.tick(effect())
    assert opened(world) == []
    return world, effect


def test_what_is_still_so_five_minutes_after_its_cause_is_told_then() -> None:
    world, effect = explained_and_released()
    world.tick(effect(), after=FIVE - timedelta(seconds=1))
    assert opened(world) == []
    world.tick(effect(), after=timedelta(seconds=1))
    assert opened(world) == ["connection_stale"]


def test_what_recovers_soon_after_its_cause_is_never_told() -> None:
    world, effect = explained_and_released()
    world.tick(effect())
    for _ in range(4):
        world.tick(after=FIVE)
    assert {each.group for each in world.orders} == {"component_down"}


def test_what_gets_worse_while_it_was_to_recover_is_told_at_once() -> None:
    world, effect = explained_and_released()
    world.tick(effect(Severity.PAGE))
    assert opened(world) == ["connection_stale"]


def test_a_clock_that_is_set_back_prolongs_the_time_to_recover_by_no_more_than_itself() -> None:
    world, effect = explained_and_released()
    world.tick(effect(), after=-timedelta(hours=8))
    assert opened(world) == []
    world.tick(effect(), after=FIVE)
    assert opened(world) == ["connection_stale"]


def test_a_cause_that_goes_on_and_is_less_urgent_now_gives_no_time_to_recover() -> None:
    world = World(AT_ONCE, graph=Graph(TOPOLOGY))
    effect = finding("acme-meta", Severity.PAGE, tenant="acme", asset="airbyte/meta", is_symptom=True)

    def cause(severity: Severity) -> Finding:
        return finding("airbyte", severity, rule="component_down", explains=("airbyte/meta",))

    world.tick(cause(Severity.PAGE), effect)
    world.tick(cause(Severity.WARN), effect)
    assert opened(world) == ["connection_stale"]


def test_what_was_explained_and_goes_with_its_cause_is_never_told() -> None:
    world = World(graph=Graph(TOPOLOGY))
    cause = finding("airbyte", rule="component_down", explains=("airbyte/meta",))
    world.tick(cause, finding("acme-meta", tenant="acme", asset="airbyte/meta", is_symptom=True))
    for _ in range(4):
        world.tick(after=FIVE)
    assert {each.group for each in world.orders} == {"component_down"}


def test_an_end_that_comes_while_its_cause_fires_is_shown_but_not_told() -> None:
    world = World(graph=Graph(TOPOLOGY))
    effect = finding("acme-meta", tenant="acme", asset="airbyte/meta", is_symptom=True)
    cause = finding("airbyte", rule="component_down", explains=("airbyte/meta",))
    world.tick(effect)
    world.tick(effect, cause)
    world.tick(cause, after=FIVE)
    assert [(each.op, each.message.standing) for each in world.orders if each.group == "connection_stale"] == [
        (Op.POST, Standing.FIRING),
        (Op.UPDATE, Standing.SUPPRESSED),
        (Op.UPDATE, Standing.RESOLVED),
    ]


def test_a_cause_explains_nothing_that_is_more_urgent_than_itself() -> None:
    world = World(graph=Graph(TOPOLOGY))
    cause = finding("airbyte", rule="component_down", explains=("airbyte/meta",))
    effect = finding("acme-meta", Severity.PAGE, tenant="acme", asset="airbyte/meta", is_symptom=True)
    world.tick(cause, effect)
    assert {each.group for each in world.orders} == {"component_down", "connection_stale"}


def test_what_a_notice_left_out_because_it_was_silenced_is_told_when_the_silence_is_over() -> None:
    world = World(silences=[_silence("resource=a", minutes=12)])
    world.now -= FIVE
    world.tick(stale("a"))
    world.tick(stale("a"), stale("b"), after=timedelta(minutes=6))
    assert world.orders[-1].message.lines[0].endswith("New: b is late.")
    world.tick(stale("a"), stale("b"), after=timedelta(minutes=15))
    assert world.orders[-1].message.lines[0].endswith("New: a is late.")


def test_two_that_explain_each_other_are_both_told() -> None:
    world = World()
    a = finding("a", asset="x", explains=("y",), is_symptom=True)
    b = finding("b", asset="y", explains=("x",), is_symptom=True)
    world.tick(a, b)
    assert len(world.orders[0].message.items) == 2


def test_an_explanation_by_labels_holds_where_the_labels_agree() -> None:
    rule = Inhibition((Matcher.parse("rule=failing"),), (Matcher.parse("rule=connection_stale"),), ("resource",))
    world = World(Options(MAIN, inhibitions=(rule,)))
    world.tick(finding("a", rule="failing"), stale("a"), stale("b"))
    shown = {each.group: [item.title for item in each.message.items] for each in world.orders}
    assert shown == {"failing": ["a is late"], "freshness/meta": ["b is late"]}


def _silence(*matchers: str, minutes: int = 60) -> Silence:
    parsed = tuple(Matcher.parse(text) for text in matchers)
    return Silence(1, parsed, NOON, NOON + timedelta(minutes=minutes), "ann", "known")


def test_what_is_silenced_is_not_told_until_the_silence_is_over() -> None:
    world = World(silences=[_silence("tenant=acme", minutes=10)])
    world.tick(stale("a", tenant="acme"))
    assert world.orders == []
    world.tick(stale("a", tenant="acme"), after=timedelta(minutes=10))
    assert world.said() == [("post", "first")]


def test_an_end_during_a_silence_is_shown_but_not_told_and_the_next_occurrence_is_told_again() -> None:
    world = World()
    world.tick(stale("a", tenant="acme"))
    world.around = World(silences=[_silence("tenant=acme", minutes=30)]).around
    (edit,) = world.tick(stale("a", tenant="acme"))
    assert (edit.op, edit.message.standing) == (Op.UPDATE, Standing.SUPPRESSED)
    (edit,) = world.tick(after=FIVE)
    assert (edit.op, edit.message.standing) == (Op.UPDATE, Standing.RESOLVED)
    world.tick(stale("a", tenant="acme"), after=timedelta(hours=1))
    assert world.said() == [("post", "first"), ("post", "first")]


def test_outside_its_hours_a_severity_waits_for_the_next_and_a_page_does_not() -> None:
    hours = Hours("America/Jamaica", begin=time(8), end=time(17))
    world = World(Options(MAIN, hours={Severity.WARN: hours}))
    world.now = NOON - timedelta(hours=2)  # five in the morning in Jamaica, on a Tuesday
    (post,) = world.tick(stale("a"), finding("b", Severity.PAGE, rule="probe_down"))
    assert post.message.severity is Severity.PAGE
    world.tick(stale("a"), finding("b", Severity.PAGE, rule="probe_down"), after=timedelta(hours=3))
    assert [each.group for each in world.orders if each.op is Op.POST] == ["probe_down", "freshness/meta"]


def test_a_page_that_nobody_acknowledges_goes_to_the_next_contact_once() -> None:
    world = World(Options(MAIN, escalation=(Escalation(timedelta(minutes=15), Routes(("boss",))),)))
    page = stale("a", Severity.PAGE)
    world.tick(page)
    world.tick(page, after=timedelta(minutes=14))
    orders = world.tick(page, after=timedelta(minutes=2))
    assert [(each.sink, each.op) for each in orders] == [("main", Op.UPDATE), ("boss", Op.POST), ("main", Op.REPLY)]
    assert orders[1].message.note == "Nobody has acknowledged it: the next contact is told."
    assert world.tick(page, after=timedelta(minutes=30)) == []
    world.tick(after=FIVE)
    assert {each.sink for each in world.after.orders if each.op is Op.UPDATE} == {"main", "boss"}  # type: ignore[union-attr]


def test_an_acknowledged_page_is_not_escalated() -> None:
    world = World(Options(MAIN, escalation=(Escalation(timedelta(minutes=15), Routes(("boss",))),)))
    world.tick(stale("a", Severity.PAGE))
    world.ack("a")
    world.tick(stale("a", Severity.PAGE), after=timedelta(hours=1))
    assert all(each.sink == "main" for each in world.orders)


def test_a_storm_opens_the_most_urgent_messages_and_the_rest_as_room_comes() -> None:
    world = World(Options(MAIN, storm=Storm(groups=2, within=timedelta(minutes=10))))
    many = [finding(f"j{n}", Severity.PAGE if n == 4 else Severity.WARN, rule=f"rule{n}") for n in range(5)]
    world.tick(*many)
    assert [each.group for each in world.orders] == ["rule4", "rule0"]
    assert world.after is not None
    assert world.after.held == ["j1 is late", "j2 is late", "j3 is late"]
    assert world.tick(*many) == []
    world.tick(*many, after=timedelta(minutes=10))
    assert [each.group for each in world.orders] == ["rule4", "rule0", "rule1", "rule2"]


def test_routes_send_to_every_sink_that_matches_and_updates_go_where_the_message_is() -> None:
    dbt = Route((Matcher.parse("rule=~dbt_.*"),), ("data",), goes_on=True)
    everything = Route((), ("main",))
    world = World(Options(Routes(("main",), (dbt, everything))))
    world.tick(finding("m", rule="dbt_failing"), stale("a"))
    assert [(each.group, each.sink) for each in world.orders] == [
        ("dbt_failing", "data"),
        ("dbt_failing", "main"),
        ("freshness/meta", "main"),
    ]
    world.orders.clear()
    world.tick(stale("a"))
    assert [(each.group, each.sink) for each in world.orders] == [("dbt_failing", "data"), ("dbt_failing", "main")]


def test_a_group_that_waits_says_everything_that_came_meanwhile_and_nothing_of_what_went() -> None:
    world = World(Options(MAIN, Timing(group_wait=timedelta(minutes=2))))
    assert world.tick(stale("a"), stale("b")) == []
    assert world.tick(stale("b"), stale("c")) == []
    (post,) = world.tick(stale("b"), stale("c"))
    assert [item.title for item in post.message.items] == ["b is late", "c is late"] or len(post.message.items) == 2


def test_a_clock_that_was_set_back_delays_a_group_by_no_more_than_its_interval() -> None:
    world = World()
    world.tick(stale("a"))
    world.now -= timedelta(days=1)
    world.tick(stale("a"), stale("b"))
    world.tick(stale("a"), stale("b"), after=FIVE)
    assert world.said()[-1] == ("reply", "more")


def test_a_megabyte_of_control_characters_is_one_short_line() -> None:
    world = World()
    (post,) = world.tick(stale("a", detail="\x00\u202e<!channel>\n" * 100_000, title="\u2066x😀" * 1000))
    (item,) = post.message.items
    assert len(item.detail) <= 600
    assert len(item.title) <= 150
    assert not set(item.detail + item.title) & set("\x00\u202e\n\u2066")


@pytest.mark.parametrize("text", ["tenant", "colour=red", "rule=~(", "=x", "rule=~" + "x" * 300])
def test_a_matcher_that_cannot_mean_anything_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        Matcher.parse(text)


@pytest.mark.parametrize(
    ("text", "matches"),
    [("tenant=acme", True), ("tenant!=acme", False), ("tenant=~ac", False), ("tenant!~b.*", True), ("job=", True)],
)
def test_matchers_mean_what_alertmanagers_mean(text: str, *, matches: bool) -> None:
    assert Matcher.parse(text).matches({"tenant": "acme"}) is matches
