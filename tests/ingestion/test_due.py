"""Whether a connection is due: who satisfies a slot, and slots that were missed."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adinsights_orchestration.ingestion import due, trigger
from adinsights_orchestration.ingestion.due import IDLE, Activity
from adinsights_orchestration.tenants.model import Connection, Schedule, ScheduleType, Standing, Tenant
from adinsights_orchestration.tenants.slots import SlotTable, slots
from tests.tenants.schedules import EXPRESSIONS, JAMAICA, MOMENTS, NOW, ZONES, connection, cron, hourly, tenant, utc


def is_due(held: Connection, whose: Tenant, activity: Activity, now: datetime) -> datetime | None:
    """As the trigger asks, with the slots that it computes."""
    return due.is_due(held, SlotTable(now).of(held, whose.timezone), activity)


def test_what_is_proven_here_is_what_the_trigger_asks() -> None:
    assert vars(trigger)["is_due"] is due.is_due


def test_a_connection_that_never_synced_is_due_at_once_for_its_newest_slot() -> None:
    slot = is_due(connection(cron("0 6-22 * * *")), tenant(), IDLE, NOW)
    assert slot == utc("2026-11-23T14:00")


@pytest.mark.parametrize(
    ("overrides", "standing"),
    [
        ({"is_active": False}, Standing.PAUSED),
        ({"retired": True}, Standing.RETIRED),
        ({"problem": "bad cron"}, Standing.MISCONFIGURED),
        ({"schedule": Schedule(ScheduleType.MANUAL)}, Standing.MANUAL),
    ],
)
def test_only_active_connections_are_ever_due(overrides: dict[str, object], standing: Standing) -> None:
    held = connection(hourly(), **overrides)
    assert held.standing is standing
    assert is_due(held, tenant(), IDLE, NOW) is None


def test_missed_slots_collapse_into_the_newest() -> None:
    last_week = Activity(started_at=NOW - timedelta(days=7))
    assert is_due(connection(cron("0 * * * *")), tenant(), last_week, NOW) == utc("2026-11-23T14:00")


def test_a_sync_that_anybody_started_at_or_after_the_slot_satisfies_it() -> None:
    held = connection(cron("0 * * * *"))
    for start in (utc("2026-11-23T14:00"), utc("2026-11-23T14:20"), NOW):
        assert is_due(held, tenant(), Activity(started_at=start), NOW) is None
    assert is_due(held, tenant(), Activity(started_at=utc("2026-11-23T13:58")), NOW) is not None


def test_an_airbyte_clock_that_is_a_minute_behind_does_not_make_a_slot_run_twice() -> None:
    held = connection(cron("0 * * * *"))
    behind = Activity(started_at=utc("2026-11-23T13:59:00"))  # started at 14:00:00 by our clock
    assert is_due(held, tenant(), behind, NOW) is None


def test_the_skew_that_is_allowed_for_never_lets_one_slots_sync_pass_for_the_next_ones() -> None:
    held = connection(hourly(timedelta(minutes=2)))
    around = slots(held.schedule, JAMAICA, NOW, held.connection_id)
    assert around.latest is not None
    before_last = Activity(started_at=around.latest - timedelta(minutes=2) + timedelta(seconds=89))
    assert is_due(held, tenant(), before_last, NOW) == around.latest


def test_a_running_sync_is_let_end_and_what_it_leaves_undone_is_due_then() -> None:
    held, before = connection(cron("0 * * * *")), utc("2026-11-23T13:40")
    assert is_due(held, tenant(), Activity(started_at=before, running=True), NOW) is None
    assert is_due(held, tenant(), Activity(started_at=before), NOW) == utc("2026-11-23T14:00")


@settings(deadline=None)
@given(st.sampled_from(EXPRESSIONS[:8]), st.sampled_from(ZONES), MOMENTS, st.lists(st.integers(1, 90), max_size=30))
def test_polling_at_any_rhythm_starts_each_slot_at_most_once_and_never_skips_the_newest(
    expression: str, zone: str, start: datetime, minutes: list[int]
) -> None:
    held, whose = connection(cron(expression)), tenant(zone)
    activity, now, started = IDLE, start, []
    for step in minutes:
        now += timedelta(minutes=step)
        slot = is_due(held, whose, activity, now)
        if slot is not None:
            started.append(slot)
            activity = Activity(started_at=now)
    assert started == sorted(set(started))
    if minutes:
        assert is_due(held, whose, activity, now) is None
