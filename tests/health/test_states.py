"""From readings to a component's standing: no data never ends a failure, and one failed probe is no outage."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adinsights_orchestration.health.model import QUIET, Component, ComponentState, Health, Reading
from adinsights_orchestration.health.states import step

START = datetime(2026, 3, 2, 14, 0, tzinfo=UTC)
TICK, CONFIRM = timedelta(seconds=30), timedelta(minutes=1)
BAD = (Health.DEGRADED, Health.DOWN)
OK, DOWN = Health.OK, Health.DOWN


def reading(health: Health, tick: int = 0, state: str = "") -> Reading:
    return Reading(Component.BACKEND, health, state or health.value, "said so", START + tick * TICK)


def after(*healths: Health) -> list[ComponentState]:
    found: list[ComponentState] = []
    for tick, health in enumerate(healths):
        found.append(step(found[-1] if found else None, reading(health, tick), CONFIRM))
    return found


def shown(*healths: Health) -> list[Health]:
    return [state.reading.health for state in after(*healths)]


def test_one_failed_probe_is_degraded_and_a_minute_of_them_is_down_since_the_first() -> None:
    states = after(OK, DOWN, DOWN, DOWN)
    assert [state.reading.health for state in states] == [OK, Health.DEGRADED, Health.DEGRADED, DOWN]
    assert states[3].since == START + TICK
    assert states[3].last_ok_at == START


def test_an_outage_is_over_when_no_probe_has_failed_for_a_minute_and_one_failed_probe_with_the_next_good_one() -> None:
    states = after(OK, DOWN, DOWN, DOWN, OK, OK, OK)
    assert [state.reading.health for state in states[3:]] == [DOWN, DOWN, DOWN, OK]
    assert (states[5].reading.state, states[5].last_ok_at) == ("down", START + 5 * TICK)
    assert states[6].since == START + 6 * TICK
    assert shown(OK, DOWN, OK) == [OK, Health.DEGRADED, OK]


def test_a_failure_that_is_not_over_yet_is_shown_with_the_facts_of_the_failure() -> None:
    failed = [replace(reading(Health.DOWN, tick), facts={"failing_models": ["model.a"]}) for tick in range(4)]
    state: ComponentState | None = None
    for each in (*failed, reading(Health.OK, 4)):
        state = step(state, each, CONFIRM)
    assert state is not None
    assert (state.reading.health, state.reading.facts["failing_models"]) == (Health.DOWN, ["model.a"])


def test_what_fails_two_probes_of_three_is_one_outage_since_the_first_of_them() -> None:
    states = after(OK, *[DOWN, DOWN, OK] * 66)
    assert [state.reading.health for state in states[:5]] == [OK, *[Health.DEGRADED] * 3, DOWN]
    assert {state.reading.health for state in states[4:]} == {DOWN}
    assert {state.since for state in states[4:]} == {START + TICK}


def test_what_fails_every_other_probe_is_down_and_one_of_three_is_not() -> None:
    assert shown(OK, *[DOWN, OK] * 10)[6:] == [DOWN] * 15
    assert DOWN not in shown(OK, *[DOWN, OK, OK] * 20)


def test_a_failure_that_ended_quietly_is_no_part_of_the_next_one() -> None:
    night = a_night(ticks=30)
    again = Reading(Component.API, DOWN, "failing", "said so", night[-1].reading.at + TICK)
    found = step(night[-1], again, CONFIRM, WINDOW)
    assert (found.reading.health, found.since) == (Health.DEGRADED, again.at)


def test_what_an_older_release_kept_is_read() -> None:
    kept = replace(reading(DOWN), facts={"down_since": START.isoformat(), "spell": {"since": 7}})
    before = ComponentState(kept, START, None)
    assert step(before, reading(DOWN, 1), CONFIRM).since == START
    assert step(before, reading(OK, 1), CONFIRM).reading.health is OK


def test_a_component_that_is_down_at_its_first_reading_is_down() -> None:
    assert shown(Health.DOWN) == [Health.DOWN]


def test_no_data_ends_no_failure_and_says_what_was_before() -> None:
    states = after(Health.DOWN, Health.UNKNOWN, Health.UNKNOWN)
    assert [state.reading.health for state in states] == [Health.DOWN] * 3
    assert states[2].since == START
    assert states[2].reading.detail == "no data (said so); it was down before"


def test_no_data_is_unknown_where_nothing_was_bad() -> None:
    assert shown(Health.OK, Health.UNKNOWN, Health.OK) == [Health.OK, Health.UNKNOWN, Health.OK]


def test_a_failed_probe_before_a_gap_counts_toward_the_outage() -> None:
    assert shown(Health.OK, Health.DOWN, Health.UNKNOWN, Health.DOWN)[-1] is Health.DOWN


def test_a_clock_that_went_back_makes_nothing_begin_in_the_future() -> None:
    before = step(None, reading(Health.OK, 100), CONFIRM)
    assert step(before, reading(Health.OK, 1), CONFIRM).since == START + TICK


WINDOW = timedelta(minutes=5)


def quiet(tick: int, *, whole: bool = True) -> Reading:
    facts = {QUIET: True} if whole else {}
    return Reading(Component.API, Health.UNKNOWN, "too_few_requests", "3 of 9", START + tick * TICK, facts=facts)


def a_night(*, whole: bool = True, after_bad: timedelta | None = WINDOW, ticks: int = 994) -> list[ComponentState]:
    """Five bad readings at the end of the day, and then too little traffic until the morning."""
    found: list[ComponentState] = []
    bad = [Reading(Component.API, Health.DOWN, "failing", "said so", START + tick * TICK) for tick in range(5)]
    for one in (*bad, *(quiet(tick, whole=whole) for tick in range(5, 5 + ticks))):
        found.append(step(found[-1] if found else None, one, CONFIRM, after_bad))
    return found


def test_too_little_traffic_ends_a_failure_once_a_whole_window_lies_after_the_last_bad_reading() -> None:
    states = a_night()
    assert states[4].reading.health is Health.DOWN
    healths = [state.reading.health for state in states[5:]]
    assert healths == [Health.DOWN] * 9 + [Health.UNKNOWN] * 985
    assert states[14].since == START + 14 * TICK == START + 4 * TICK + WINDOW
    assert states[14].reading.detail == "3 of 9"


@pytest.mark.parametrize("what", [{"whole": False}, {"after_bad": None}])
def test_what_little_there_is_ends_nothing_while_it_fails_too_or_the_backend_does(what: dict[str, Any]) -> None:
    assert {state.reading.health for state in a_night(**what)} == {Health.DOWN}


@given(st.lists(st.sampled_from(Health), min_size=1, max_size=40))
def test_a_standing_is_never_better_than_its_readings_allow(healths: list[Health]) -> None:
    states = after(*healths)
    for number, state in enumerate(states):
        own, health = healths[number], state.reading.health
        assert health is not OK or own is OK
        if own is OK and DOWN not in healths[max(number - 2, 0) : number]:
            assert health is OK or Health.UNKNOWN in healths[:number], "two good readings and a third end anything"
        assert state.since <= state.reading.at
        assert (state.last_ok_at is None) == (Health.OK not in healths[: number + 1])
        if own is Health.DOWN:
            assert health in BAD
        if own is Health.UNKNOWN and number and states[number - 1].reading.health in BAD:
            assert health is states[number - 1].reading.health


@given(st.lists(st.sampled_from(Health), min_size=1, max_size=40))
def test_what_stays_in_one_health_keeps_its_beginning(healths: list[Health]) -> None:
    states = after(*healths)
    for before, now in itertools.pairwise(states):
        if before.reading.health is now.reading.health:
            assert now.since == before.since
