"""The slots of a schedule: cron in a timezone, intervals, and clocks that change."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adinsights_orchestration.tenants.cron import parse_cron
from adinsights_orchestration.tenants.model import Connection, Provider, Registry, Schedule, ScheduleType
from adinsights_orchestration.tenants.slots import SlotTable, first_planned, latest_slot, next_slot, slots
from tests.tenants.schedules import (
    EXPRESSIONS,
    JAMAICA,
    LONDON,
    MOMENTS,
    NEAR_A_CHANGE,
    NEW_YORK,
    NOW,
    ZONES,
    connection,
    cron,
    hourly,
    tenant,
    utc,
)


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(EXPRESSIONS), st.sampled_from(ZONES), st.one_of(MOMENTS, NEAR_A_CHANGE))
def test_the_latest_slot_is_never_in_the_future_and_the_next_one_always_is(
    expression: str, zone: str, now: datetime
) -> None:
    around = slots(cron(expression), zone, now, uuid4())
    assert around.latest is not None
    assert around.following is not None
    assert around.latest <= now < around.following


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(EXPRESSIONS), st.sampled_from(ZONES), st.one_of(MOMENTS, NEAR_A_CHANGE))
def test_no_slot_lies_between_the_latest_and_the_next(expression: str, zone: str, now: datetime) -> None:
    around = slots(cron(expression), zone, now, uuid4())
    assert around.latest is not None
    assert around.following is not None
    assert next_slot(cron(expression), zone, around.latest, uuid4()) == around.following
    assert latest_slot(cron(expression), zone, around.following, uuid4()) == around.following
    just_before = around.following - timedelta(microseconds=1)
    assert latest_slot(cron(expression), zone, just_before, uuid4()) == around.latest


def test_cron_is_read_in_the_tenants_timezone() -> None:
    assert latest_slot(cron("15 2 * * *"), JAMAICA, NOW, uuid4()) == utc("2026-11-23T07:15")
    assert latest_slot(cron("15 2 * * *"), LONDON, NOW, uuid4()) == utc("2026-11-23T02:15")


def test_metrics_sleep_from_22_to_06_local() -> None:
    early = utc("2026-11-23T10:59")  # 05:59 in Jamaica
    assert latest_slot(cron("0 6-22 * * *"), JAMAICA, early, uuid4()) == utc("2026-11-23T03:00")
    assert next_slot(cron("0 6-22 * * *"), JAMAICA, early, uuid4()) == utc("2026-11-23T11:00")


def test_a_moment_that_the_clocks_skip_happens_when_they_have_jumped() -> None:
    before = utc("2026-03-28T12:00")
    slot = next_slot(cron("30 1 * * *"), LONDON, before, uuid4())
    assert slot == utc("2026-03-29T01:00")  # 01:30 does not exist that day; the clocks go from 01:00 to 02:00
    assert next_slot(cron("30 1 * * *"), LONDON, slot, uuid4()) == utc("2026-03-30T00:30")


def test_a_moment_that_comes_twice_happens_once() -> None:
    first = next_slot(cron("30 1 * * *"), LONDON, utc("2026-10-24T12:00"), uuid4())
    assert first == utc("2026-10-25T00:30")
    between = utc("2026-10-25T01:10")  # the second 01:10 of the night, after the only 01:30 that counts
    assert latest_slot(cron("30 1 * * *"), LONDON, between, uuid4()) == first
    assert next_slot(cron("30 1 * * *"), LONDON, between, uuid4()) == utc("2026-10-26T01:30")


def test_every_quarter_hour_runs_on_through_the_hour_that_comes_twice() -> None:
    moment, seen = utc("2026-10-25T00:00"), []
    while moment < utc("2026-10-25T02:00"):
        following = next_slot(cron("*/15 * * * *"), LONDON, moment, uuid4())
        assert following is not None
        seen.append(following - moment)
        moment = following
    assert seen == [timedelta(minutes=15)] * 8


@pytest.mark.parametrize(
    ("quartz", "unix"),
    [
        ("0 0 6-22 * * ?", "0 6-22 * * *"),
        ("0 0 9 ? * 2-6", "0 9 * * 1-5"),
        ("0 0 9 ? * MON-FRI", "0 9 * * 1-5"),
        ("0 0 9 ? * 1", "0 9 * * 0"),
        ("0 0 9 ? * FRI-MON", "0 9 * * 5,6,0,1"),
        ("0 0/20 * * * ?", "0,20,40 * * * *"),
        ("0 */20 * * * ?", "*/20 * * * *"),
        ("0 0 22-2 * * ?", "0 22,23,0,1,2 * * *"),
        ("0 0 9 1,15 JAN-MAR ?", "0 9 1,15 1-3 *"),
        ("0 0 9 ? * 2/2", "0 9 * * 1,3,5"),
        ("0 15 10 L * ?", "15 10 L * *"),
        ("0 15 10 ? * L", "15 10 * * 6"),
        ("0 0 9 * * ? *", "0 9 * * *"),
    ],
)
def test_quartz_and_unix_name_the_same_moments(quartz: str, unix: str) -> None:
    moment = utc("2026-01-01T00:00")
    for _ in range(60):
        following = next_slot(cron(quartz), NEW_YORK, moment, uuid4())
        assert following == next_slot(cron(unix), NEW_YORK, moment, uuid4())
        assert following is not None
        moment = following


def test_quartz_keeps_its_second_of_the_minute() -> None:
    assert next_slot(cron("20 15 10 * * ?"), "UTC", NOW, uuid4()) == utc("2026-11-24T10:15:20")
    assert latest_slot(cron("20 15 10 * * ?"), "UTC", utc("2026-11-24T10:15:19"), uuid4()) == utc("2026-11-23T10:15:20")


def test_quartz_years_bound_the_slots() -> None:
    only = cron("0 0 12 1 6 ? 2027")
    assert next_slot(only, "UTC", NOW, uuid4()) == utc("2027-06-01T12:00")
    assert latest_slot(only, "UTC", NOW, uuid4()) is None
    assert next_slot(only, "UTC", utc("2027-06-01T12:00"), uuid4()) is None
    assert latest_slot(only, "UTC", utc("2031-01-01T00:00"), uuid4()) == utc("2027-06-01T12:00")


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("every hour", "has 2 fields"),
        ("61 * * * *", "bad minute"),
        ("0 25 * * *", "bad hour"),
        ("0 0 31 2 *", "bad day-of-month"),
        ("* * * * * ?", "seconds must be one number"),
        ("*/10 0 * * * ?", "seconds must be one number"),
        ("0 0 9 15W * ?", "day of month '15W' is not supported"),
        ("0 0 9 ? * 8", "day of week '8' is not supported"),
        ("0 0 9 * FOO ?", "month 'FOO' is not supported"),
        ("0 0 9 * * ? soon", "year 'SOON' is not supported"),
        ("0 0 9 * * ? 2020-2010", "year '2020-2010' is not supported"),
        ("", "has 0 fields"),
    ],
)
def test_a_wrong_expression_is_refused_with_the_field_and_the_form(expression: str, says: str) -> None:
    with pytest.raises(ValueError, match="cron expression") as caught:
        parse_cron(expression)
    assert says in str(caught.value)


@given(st.lists(st.text("0123456789*/-,?LW#JAN", min_size=1, max_size=5), min_size=5, max_size=7).map(" ".join))
def test_whatever_stands_there_is_an_expression_or_a_wrong_value(expression: str) -> None:
    with suppress(ValueError):
        parse_cron(expression)


# ------------------------------------------------------------------------------------------------------------ interval


@given(st.timedeltas(timedelta(minutes=5), timedelta(days=2)), MOMENTS, st.uuids())
def test_interval_slots_lie_on_a_grid_of_the_connections_own(
    interval: timedelta, now: datetime, connection_id: UUID
) -> None:
    around = slots(hourly(interval), JAMAICA, now, connection_id)
    assert around.latest is not None
    assert around.following is not None
    assert around.latest <= now < around.following
    assert around.gap == interval
    later = slots(hourly(interval), JAMAICA, around.following + interval * 7, connection_id)
    assert later.latest == around.following + interval * 7


def test_connections_of_one_interval_spread_over_it() -> None:
    starts = {latest_slot(hourly(), JAMAICA, NOW, UUID(int=number)) for number in range(600)}
    quarters = [sum(1 for s in starts if s is not None and (NOW - s) // timedelta(minutes=15) == q) for q in range(4)]
    assert min(quarters) > 100


def test_manual_schedules_have_no_slots() -> None:
    around = slots(Schedule(ScheduleType.MANUAL), JAMAICA, NOW, uuid4())
    assert (around.latest, around.following, around.gap) == (None, None, None)


def test_the_slot_table_agrees_with_computing_each_connection_by_itself() -> None:
    table = SlotTable(NOW)
    for expression in EXPRESSIONS:
        for zone in ZONES:
            held = connection(cron(expression), connection_id=uuid4())
            assert table.of(held, zone) == slots(held.schedule, zone, NOW, held.connection_id)
    interval = connection(hourly(), connection_id=uuid4())
    assert table.of(interval, JAMAICA) == slots(interval.schedule, JAMAICA, NOW, interval.connection_id)


def test_the_first_planned_sync_is_the_earliest_of_a_providers_active_connections_each_in_its_own_timezone() -> None:
    acme, globex = tenant(JAMAICA), tenant(LONDON)
    nightly = partial(connection, cron("15 2 * * *"))
    others = [
        nightly(tenant_id=globex.id, provider=Provider.GA4),
        connection(hourly(), tenant_id=acme.id, is_active=False),
        connection(Schedule(ScheduleType.MANUAL), tenant_id=acme.id),
    ]

    def planned(*connections: Connection) -> datetime | None:
        return first_planned(Registry((acme, globex), (*others, *connections), "test", NOW), Provider.META, NOW)

    assert planned(nightly(tenant_id=acme.id)) == utc("2026-11-24T07:15")
    assert planned(nightly(tenant_id=acme.id), nightly(tenant_id=globex.id)) == utc("2026-11-24T02:15")
    assert planned() is None


def test_local_times_are_what_people_read_on_the_wall() -> None:
    slot = latest_slot(cron("0 6-22 * * *"), NEW_YORK, utc("2026-07-01T02:30"), uuid4())
    assert slot is not None
    assert slot.astimezone(ZoneInfo(NEW_YORK)).hour == 22
