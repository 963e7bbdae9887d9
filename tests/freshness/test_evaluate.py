"""The rule of freshness: due after the slot and the grace, late only beyond age and gap, and never by silence."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adinsights_orchestration.environments import Environment
from adinsights_orchestration.freshness.evaluate import CLOCK_SKEW, Rules, evaluate, grace_of
from adinsights_orchestration.freshness.model import Expectation, Facts, Freshness, Verdict
from adinsights_orchestration.freshness.sla import load_sla
from adinsights_orchestration.tenants.model import Provider, Schedule, ScheduleType, Standing
from adinsights_orchestration.tenants.slots import slots
from tests.tenants.schedules import EXPRESSIONS, JAMAICA, MOMENTS, ZONES, cron, hourly, utc

RULES = Rules.of(load_sla(Environment.PRODUCTION))
CONNECTION = UUID("1f0c2a9b-0000-4000-8000-000000000001")
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
WORKDAY = cron("0 6-22 * * *")
LONG_AGO = datetime(2025, 1, 1, tzinfo=UTC)


def expecting(schedule: Schedule, timezone: str = JAMAICA, **others: object) -> Expectation:
    values: dict[str, object] = {"standing": Standing.ACTIVE, "max_age": HOUR, **others}
    return Expectation(schedule=schedule, timezone=timezone, connection_id=CONNECTION, **values)  # type: ignore[arg-type]


def facts(**known: object) -> Facts:
    return Facts("acme/meta-1f0c2a9b", Provider.META, uuid4(), **known)  # type: ignore[arg-type]


def succeeded(moment: datetime, **known: object) -> Facts:
    return facts(last_success_at=moment, last_job_id=1, last_job_status="succeeded", **known)


def local(text: str) -> datetime:
    """A moment of 2026-11-23 in Jamaica, five hours behind UTC; `+` is the day after."""
    day = timedelta(days=text.startswith("+"))
    return utc(f"2026-11-23T{text.removeprefix('+')}") + day + 5 * HOUR


def judge(known: Facts, expectation: Expectation, now: datetime, since: datetime = LONG_AGO) -> Verdict:
    return evaluate(known, expectation, RULES, since, now)


# --------------------------------------------------------------------------------------------------------- by example


def test_an_hourly_connection_that_syncs_on_time_is_never_late() -> None:
    for hour in range(6, 22):
        synced = succeeded(local(f"{hour:02}:05"))
        for minute in (5, 30, 59):
            assert judge(synced, expecting(WORKDAY), local(f"{hour:02}:{minute:02}")).state is Freshness.OK
        assert judge(synced, expecting(WORKDAY), local(f"{hour + 1:02}:14")).state is Freshness.OK


def test_it_does_not_flap_when_a_sync_takes_a_few_minutes_longer_than_the_one_before() -> None:
    assert judge(succeeded(local("08:02")), expecting(WORKDAY), local("09:16")).state is Freshness.OK


def test_it_is_late_once_the_missed_slots_grace_and_the_age_are_both_over() -> None:
    synced = succeeded(local("08:05"))
    verdict = judge(synced, expecting(WORKDAY), local("09:00"))
    assert verdict.deadline == local("09:20")  # 08:05 + 60 min gap + 15 min grace; the slot's own is 09:15
    assert verdict.valid_until == local("09:20")
    assert judge(synced, expecting(WORKDAY), local("09:19:59")).state is Freshness.OK
    assert judge(synced, expecting(WORKDAY), local("09:20")).state is Freshness.STALE


def test_one_that_sleeps_from_22_to_06_is_not_late_at_half_past_five_and_is_soon_after_six() -> None:
    synced = succeeded(local("22:05"))
    assert judge(synced, expecting(WORKDAY), local("+05:30")).state is Freshness.OK
    assert judge(synced, expecting(WORKDAY), local("+06:14")).state is Freshness.OK
    assert judge(synced, expecting(WORKDAY), local("+06:20")).state is Freshness.STALE


def test_its_own_long_syncs_extend_the_grace() -> None:
    slow = succeeded(local("08:50"), usual_seconds=50 * 60.0)
    assert judge(slow, expecting(WORKDAY), local("09:45")).state is Freshness.OK
    assert judge(slow, expecting(WORKDAY), local("10:40")).deadline == local("10:40")


def test_a_cadence_of_fifteen_minutes_is_still_allowed_the_least_age() -> None:
    often = expecting(hourly(timedelta(minutes=15)))
    assert judge(succeeded(local("08:00")), often, local("08:59")).state is Freshness.OK
    assert judge(succeeded(local("08:00")), often, local("09:00")).state is Freshness.STALE


def test_a_daily_connection_is_judged_by_its_day() -> None:
    daily = expecting(cron("15 2 * * *"))
    assert judge(succeeded(local("02:20")), daily, local("+02:29")).state is Freshness.OK
    assert judge(succeeded(local("02:20")), daily, local("+02:35")).state is Freshness.STALE


def test_a_new_connection_is_pending_until_its_first_deadline_and_then_has_no_recent_sync() -> None:
    seen = local("08:30")
    assert judge(facts(), expecting(WORKDAY), local("09:14"), seen).state is Freshness.PENDING
    verdict = judge(facts(), expecting(WORKDAY), local("09:15"), seen)
    assert verdict.state is Freshness.NO_RECENT_SYNC
    assert "Never synced" in verdict.detail


def test_a_connection_that_was_paused_for_days_is_due_at_its_next_slot_not_at_once() -> None:
    resumed = local("08:30")
    old = succeeded(resumed - timedelta(days=9))
    assert judge(old, expecting(WORKDAY), local("09:14"), resumed).state is Freshness.OK
    assert judge(old, expecting(WORKDAY), local("09:16"), resumed).state is Freshness.STALE


def test_a_failed_attempt_shows_before_the_deadline_and_names_its_reason_after_it() -> None:
    failed = replace(succeeded(local("08:05")), failures=2, last_job_status="failed", last_job_reason="token revoked")
    early, late = (judge(failed, expecting(WORKDAY), local(at)) for at in ("09:10", "09:30"))
    assert (early.state, early.detail) == (Freshness.FAILING, "2 failures since the last success: token revoked")
    assert late.state is Freshness.STALE
    assert "2 failures: token revoked" in late.detail
    trying = judge(replace(failed, running_since=local("09:25")), expecting(WORKDAY), local("09:30"))
    assert "A sync runs since" in trying.detail
    assert "2 failures: token revoked" in trying.detail, "the sync that runs may fail for the same reason"


def test_a_sync_that_runs_far_beyond_its_history_is_shown_as_such() -> None:
    running = succeeded(local("08:05"), running_since=local("09:00"), usual_seconds=300.0)
    daily = expecting(cron("0 6 * * *"))
    assert judge(running, daily, local("10:59")).state is Freshness.OK
    assert judge(running, daily, local("11:00")).state is Freshness.RUNNING_STALE


@pytest.mark.parametrize(
    ("standing", "state"),
    [
        (Standing.PAUSED, Freshness.PAUSED),
        (Standing.MANUAL, Freshness.MANUAL),
        (Standing.MISCONFIGURED, Freshness.MISCONFIGURED),
    ],
)
def test_what_is_not_driven_is_never_late(standing: Standing, state: Freshness) -> None:
    verdict = judge(facts(), expecting(WORKDAY, standing=standing), utc("2036-01-01T00:00"))
    assert (verdict.state, verdict.deadline, verdict.valid_until) == (state, None, None)


def test_a_schedule_that_never_comes_again_is_never_late() -> None:
    once = expecting(cron("0 0 12 1 1 ? 2025"))
    assert judge(succeeded(local("08:00")), once, utc("2036-01-01T00:00")).state is Freshness.OK


# -------------------------------------------------------------------------------------------------------- by property

SCHEDULES = st.one_of(
    st.sampled_from(EXPRESSIONS[:14]).map(cron), st.integers(5, 2000).map(lambda n: hourly(n * MINUTE))
)
EXPECTATIONS = st.builds(
    expecting, SCHEDULES, st.sampled_from(ZONES), max_age=st.integers(5, 300).map(lambda n: n * MINUTE)
)
SPANS = st.timedeltas(timedelta(), timedelta(days=12))
USUAL = st.one_of(st.none(), st.floats(1, 20_000))
FAILURES = st.integers(0, 4)


@settings(deadline=None, max_examples=300)
@given(EXPECTATIONS, MOMENTS, SPANS, SPANS, USUAL, FAILURES)
def test_without_news_it_never_gets_better_as_time_goes_by(
    expectation: Expectation, start: datetime, first: timedelta, then: timedelta, usual: float | None, failures: int
) -> None:
    known = succeeded(start, usual_seconds=usual, failures=failures)
    earlier = judge(known, expectation, start + first)
    later = judge(known, expectation, start + first + then)
    assert later.state.rank >= earlier.state.rank


@settings(deadline=None, max_examples=300)
@given(EXPECTATIONS, MOMENTS, SPANS, SPANS, USUAL, FAILURES)
def test_a_later_success_never_makes_it_worse(
    expectation: Expectation, start: datetime, first: timedelta, then: timedelta, usual: float | None, failures: int
) -> None:
    now = start + first + then
    without = succeeded(start, usual_seconds=usual, failures=failures)
    with_it = succeeded(start + first, usual_seconds=usual)
    assert judge(with_it, expectation, now).state.rank <= judge(without, expectation, now).state.rank


@settings(deadline=None, max_examples=300)
@given(EXPECTATIONS, MOMENTS, SPANS, USUAL, FAILURES, st.one_of(st.none(), SPANS))
def test_a_verdict_holds_until_it_says_and_not_longer(
    expectation: Expectation,
    start: datetime,
    passed: timedelta,
    usual: float | None,
    failures: int,
    running: timedelta | None,
) -> None:
    known = succeeded(start, usual_seconds=usual, failures=failures)
    if running is not None:
        known = replace(known, running_since=start + running)
    verdict = judge(known, expectation, start + passed)
    if verdict.valid_until is None:
        assert judge(known, expectation, start + passed + timedelta(days=900)).state is verdict.state
        return
    assert verdict.valid_until > start + passed
    just_before = verdict.valid_until - timedelta(microseconds=1)
    assert judge(known, expectation, just_before).state is verdict.state
    assert judge(known, expectation, verdict.valid_until).state is not verdict.state


@settings(deadline=None, max_examples=200)
@given(EXPECTATIONS, MOMENTS, SPANS, USUAL)
def test_the_closed_form_agrees_with_the_rule_slot_by_slot(
    expectation: Expectation, start: datetime, passed: timedelta, usual: float | None
) -> None:
    known, now = succeeded(start, usual_seconds=usual), start + passed
    assert (judge(known, expectation, now).state is Freshness.STALE) is late_by_the_rule(known, expectation, now)


def late_by_the_rule(known: Facts, expectation: Expectation, now: datetime) -> bool:
    """The rule in its own words: at any moment so far, the newest slot whose expected completion had passed by then
    had no success since, and the last success was older than the least age and the slot's gap plus the grace.
    """
    assert known.last_success_at is not None
    success, grace = known.last_success_at, grace_of(known, RULES)
    slot = slots(expectation.schedule, expectation.timezone, success + CLOCK_SKEW, CONNECTION)
    while slot.following is not None and slot.following + grace <= now:
        after = slots(expectation.schedule, expectation.timezone, slot.following, CONNECTION)
        until = now if after.following is None else min(now, after.following + grace)
        assert slot.gap is not None
        if until - success >= max(expectation.max_age, slot.gap + grace):
            return True
        slot = after
    return False


def test_there_is_no_interval_of_nothing() -> None:
    never = Schedule(ScheduleType.INTERVAL, interval=timedelta())
    assert judge(facts(), expecting(never), utc("2030-01-01T00:00")).state is Freshness.PENDING
