"""Schedules and sensors that stopped ticking, never did, or fail whenever they do: found in time, and not before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adinsights_orchestration.alerting.gathering.automations import Expected, Failing, Watch, judge
from adinsights_orchestration.dagster_internals.automations import Automation
from tests.alerting.support import NOON

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
HOME = "America/Jamaica"
NIGHTLY = Expected(cron="0 3 * * *", timezone=HOME)  # 08:00 UTC
MONTHLY = Expected(cron="0 7 9 * *", timezone=HOME)
OFTEN = Expected(every=timedelta(seconds=30))
LISTENING = Watch(NOON - MINUTE, NOON - timedelta(days=400))
NIGHT = datetime(2026, 3, 11, 8, 0, tzinfo=UTC)  # the first 03:00 after NOON where home is
ALIVE = Automation("alert_evaluate", False, last_tick_at=NOON)


def off_at(
    now: datetime, one: Automation | None, expected: Expected, watch: Watch = LISTENING, name: str = "it"
) -> Mapping[str, str]:
    """What is said of one automation, beside another one that ticks."""
    found = {"alert_evaluate": replace(ALIVE, last_tick_at=now)} | ({name: one} if one else {})
    failures, _, _ = judge(found, {name: expected}, watch, now)
    return {name: failure.detail for name, failure in failures.items()}


def fails_at(now: datetime, one: Automation, expected: Expected, since: datetime, watch: Watch = LISTENING) -> str:
    """What is said of one automation whose every tick has failed since then, beside another one that ticks well."""
    found = {"alert_evaluate": replace(ALIVE, last_tick_at=now), "it": replace(one, last_tick_at=now)}
    halts, after, until = judge(found, {"it": expected}, watch, now, {"it": Failing(since, "ValueError: boom")})
    assert after.stopped == {name: halt.at for name, halt in halts.items()}
    assert halts or until > now, "it is looked at again as soon as time alone makes it news"
    assert all(halt.fails for halt in halts.values())
    return halts["it"].detail if halts else ""


def on(at: datetime, *, passed_at: datetime | None = None, last_tick_at: datetime | None = None) -> Automation:
    return Automation("it", False, last_tick_at, at, passed_at)


def test_a_daily_schedule_is_missed_a_quarter_of_an_hour_after_its_time_and_not_before_the_first_one() -> None:
    fresh = on(NOON)
    assert off_at(NIGHT - MINUTE, fresh, NIGHTLY) == off_at(NIGHT + 14 * MINUTE, fresh, NIGHTLY) == {}
    assert off_at(NIGHT + 15 * MINUTE, fresh, NIGHTLY) == {
        "it": "It did not tick for 2026-03-11 08:00 UTC, when it was due."
    }
    ticked = replace(fresh, last_tick_at=NIGHT)
    assert off_at(NIGHT + 15 * MINUTE, ticked, NIGHTLY) == {}
    assert off_at(NIGHT + 24 * HOUR + 14 * MINUTE, ticked, NIGHTLY) == {}
    assert off_at(NIGHT + 24 * HOUR + 15 * MINUTE, ticked, NIGHTLY) != {}


def test_a_monthly_schedule_is_not_missed_for_a_month() -> None:
    due = datetime(2026, 4, 9, 12, 0, tzinfo=UTC)
    assert off_at(due + 14 * MINUTE, on(NOON), MONTHLY) == {}
    assert off_at(due + 15 * MINUTE, on(NOON), MONTHLY) != {}


def test_where_the_clocks_change_a_night_is_neither_missed_early_nor_late() -> None:
    berlin = Expected(cron="30 2 * * *", timezone="Europe/Berlin")
    for begins, due in (
        (datetime(2026, 3, 28, 12, tzinfo=UTC), datetime(2026, 3, 29, 1, 0, tzinfo=UTC)),
        (datetime(2026, 10, 24, 12, tzinfo=UTC), datetime(2026, 10, 25, 1, 30, tzinfo=UTC)),
    ):
        assert off_at(due + 14 * MINUTE, on(begins), berlin) == {}
        assert off_at(due + 15 * MINUTE, on(begins), berlin) != {}


def test_a_schedule_that_the_scheduler_has_gone_through_is_not_missed_for_what_its_new_cron_would_have_asked() -> None:
    deployed_later = on(NOON - 48 * HOUR, passed_at=NIGHT + 2 * HOUR)
    assert off_at(NIGHT + 3 * HOUR, deployed_later, NIGHTLY) == {}


def test_what_was_switched_on_a_minute_ago_has_its_time_to_tick() -> None:
    later = NOON + 30 * HOUR
    again = Automation("it", False, last_tick_at=NOON, started_at=later - MINUTE)
    assert off_at(later, again, OFTEN) == {}
    assert off_at(later + 4 * MINUTE, again, OFTEN) == {"it": "It ticked last at 2026-03-10 12:00 UTC."}
    assert off_at(NIGHT + 4 * HOUR, on(NIGHT + HOUR), NIGHTLY) == {}, "its night was over by then"


def test_a_sensor_that_is_on_and_never_ticks_is_found_and_a_slow_one_has_four_intervals() -> None:
    assert off_at(NOON + 4 * MINUTE, on(NOON), OFTEN) == {}
    assert off_at(NOON + 5 * MINUTE, on(NOON), OFTEN) == {"it": "It has never ticked."}
    slow = Expected(every=15 * MINUTE)
    assert off_at(NOON + 59 * MINUTE, on(NOON), slow) == {}
    assert off_at(NOON + 60 * MINUTE, on(NOON), slow) != {}


@pytest.mark.parametrize("one", [None, Automation("it", False)])
@pytest.mark.parametrize("expected", [OFTEN, NIGHTLY, MONTHLY])
def test_what_dagster_keeps_nothing_of_is_found_a_quarter_of_an_hour_after_it_was_first_looked_for(
    one: Automation | None, expected: Expected
) -> None:
    found = {"alert_evaluate": ALIVE} | ({"it": one} if one else {})
    watch, said = LISTENING, []
    for minute in range(20):
        now = NOON + minute * MINUTE
        failures, watch, until = judge(found, {"it": expected}, watch.at(now), now)
        said.append(failures.get("it"))
        assert until <= now + 2 * MINUTE
    assert said[:15] == [None] * 15
    assert all(failure is not None and failure.at == NOON for failure in said[15:])
    failures, watch, _ = judge({**found, "it": on(NOON + 20 * MINUTE)}, {"it": expected}, watch, NOON + 20 * MINUTE)
    assert (failures, watch.unseen, watch.stopped) == ({}, {}, {})


def test_where_dagster_knows_of_nothing_no_daemon_runs_and_nothing_is_missed() -> None:
    failures, watch, _ = judge({}, {"it": OFTEN, "nightly": NIGHTLY}, LISTENING, NOON + 24 * HOUR)
    assert (failures, watch.unseen) == ({}, {})


def test_after_a_pause_of_evaluations_everything_has_its_time_before_it_is_called_silent() -> None:
    back = NIGHT + 30 * MINUTE  # the daemon was down from before the night's schedule until after it
    watch = Watch(NIGHT - HOUR, NOON - HOUR).at(back)
    assert off_at(back, on(NIGHT - HOUR, last_tick_at=NIGHT - HOUR), OFTEN, watch) == {}
    assert off_at(back, on(NOON), NIGHTLY, watch) == {}
    assert off_at(back + 5 * MINUTE, on(NIGHT - HOUR), OFTEN, watch) != {}
    assert off_at(back + 14 * MINUTE, on(NOON), NIGHTLY, watch) == {}
    assert off_at(back + 15 * MINUTE, on(NOON), NIGHTLY, watch) != {}
    assert watch.at(back + MINUTE).listening_since == back
    assert watch.at(back - MINUTE).listening_since == back - MINUTE, "a clock that was set back is a pause"


def test_what_was_found_before_a_pause_stays_found_until_it_ticks() -> None:
    told = Watch(NOON, NOON - HOUR, stopped={"it": NOON - 20 * MINUTE}).at(NOON + HOUR)
    silent = on(NOON - 20 * MINUTE)
    assert off_at(NOON + HOUR, silent, OFTEN, told) != {}
    assert off_at(NOON + HOUR, replace(silent, last_tick_at=NOON + HOUR), OFTEN, told) == {}


def test_since_when_one_is_off_is_known_from_the_first_time_that_it_was_found() -> None:
    found = {"it": Automation("it", True, passed_at=NOON)}
    first, watch, _ = judge(found, {"it": NIGHTLY}, LISTENING, NOON)
    again, watch, _ = judge(found, {"it": NIGHTLY}, watch, NOON + HOUR)
    assert (first["it"].at, again["it"]) == (NOON, first["it"])
    assert again["it"].detail == "Somebody switched it off."
    assert Watch.from_json(watch.to_json()) == watch
    assert Watch.from_json(None) == Watch.from_json({"looked_at": 3}) == Watch()


def test_a_sensor_whose_every_tick_fails_is_found_when_a_silent_one_would_be_and_one_failed_tick_is_nothing() -> None:
    said = "Every tick since 2026-03-10 12:00 UTC has failed, the last one with: ValueError: boom"
    assert fails_at(NOON + 4 * MINUTE, on(NOON - HOUR), OFTEN, NOON) == ""
    assert fails_at(NOON + 5 * MINUTE, on(NOON - HOUR), OFTEN, NOON) == said
    slow = Expected(every=15 * MINUTE)
    assert fails_at(NOON + 59 * MINUTE, on(NOON - HOUR), slow, NOON) == ""
    assert fails_at(NOON + 60 * MINUTE, on(NOON - HOUR), slow, NOON) == said


def test_a_schedule_has_a_quarter_of_an_hour_to_be_tried_again() -> None:
    assert fails_at(NIGHT + 14 * MINUTE, on(NOON), NIGHTLY, NIGHT) == ""
    assert fails_at(NIGHT + 15 * MINUTE, on(NOON), NIGHTLY, NIGHT).startswith("Every tick since 2026-03-11 08:00 UTC")


def test_after_a_pause_what_fails_has_its_time_too_and_what_was_found_failing_stays_found() -> None:
    back = NOON + 10 * HOUR
    paused = Watch(NOON, NOON - HOUR).at(back)
    assert fails_at(back + 4 * MINUTE, on(NOON - HOUR), OFTEN, NOON, paused) == ""
    assert fails_at(back + 5 * MINUTE, on(NOON - HOUR), OFTEN, NOON, paused) != ""
    told = replace(paused, stopped={"it": NOON})
    assert fails_at(back, on(NOON - HOUR), OFTEN, NOON, told) != ""


def test_what_fails_and_then_is_silent_is_told_as_one_thing_that_began_with_the_first_failure() -> None:
    found = {"alert_evaluate": replace(ALIVE, last_tick_at=NOON + HOUR), "it": on(NOON, last_tick_at=NOON + HOUR)}
    failing = {"it": Failing(NOON, "ValueError: boom")}
    halts, watch, _ = judge(found, {"it": OFTEN}, LISTENING, NOON + HOUR, failing)
    assert halts["it"].fails
    later = NOON + HOUR + 5 * MINUTE
    halts, _, _ = judge(found, {"it": OFTEN}, watch.at(later), later, failing)
    assert (halts["it"].fails, halts["it"].at, len(halts)) == (False, NOON, 1)


class Platform:
    """A daemon that goes up and down, with an evaluation, a sensor and a schedule in it, minute by minute."""

    def __init__(self) -> None:
        self.now, self.watch = NOON, Watch()
        self.declared = {"watching": OFTEN, "half-hourly": Expected(cron="*/30 * * * *")}
        self.ticks = dict.fromkeys((*self.declared, "alert_evaluate"), NOON)

    def minute(self, *, up: bool, dead: bool = False) -> set[str]:
        """Moves on; evaluates before anything else ticks, where both are due. Nothing ticks of what is dead."""
        self.now += MINUTE
        if not up:
            return set()
        found = {name: Automation(name, False, last_tick_at=at) for name, at in self.ticks.items()}
        failures, self.watch, _ = judge(found, self.declared, self.watch.at(self.now), self.now)
        if not dead:
            due = self.now.replace(minute=self.now.minute // 30 * 30)
            self.ticks |= {"watching": self.now, "half-hourly": max(due, self.ticks["half-hourly"])}
        return set(failures)


@given(st.lists(st.tuples(st.integers(1, 90), st.booleans()), max_size=8), st.integers(1, 90))
@settings(max_examples=60, deadline=None)
def test_a_daemon_that_goes_down_and_comes_back_is_never_called_silent_and_what_stays_dead_always_is(
    stretches: list[tuple[int, bool]], pause: int
) -> None:
    platform = Platform()
    for minutes, up in stretches:
        for _ in range(minutes):
            assert platform.minute(up=up) == set()
    platform.minute(up=True)
    said = [platform.minute(up=True, dead=True) for _ in range(46)]  # half an hour to the next moment, and the grace
    assert "watching" in said[5]
    assert said[-1] == {"watching", "half-hourly"}
    for _ in range(pause):
        platform.minute(up=False)
    assert platform.minute(up=True, dead=True) == {"watching", "half-hourly"}
    platform.minute(up=True)
    assert platform.minute(up=True) == set()
