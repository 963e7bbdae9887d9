"""Windows and holds: never a day too early, never a held row, never a tenant that nobody knows."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adinsights_orchestration.audit_log.windows import (
    Hold,
    HoldKind,
    Policy,
    ShortWindowError,
    Why,
    first_kept_day,
    policy_of,
    require_window,
)
from adinsights_orchestration.tenants.model import ResourceHold
from tests.tenants.builders import ACME, GLOBEX, built, raw_connection, raw_tenant

NOW = datetime(2026, 11, 28, 7, 30, tzinfo=UTC)
tenants = st.sampled_from([UUID(int=number) for number in range(1, 4)])
days = st.dates(date(2020, 1, 1), date(2030, 1, 1))
moments = st.datetimes(datetime(2022, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  (made aware)
windows = st.integers(365, 4000)
types, ids = st.sampled_from(["user", "airbyte_connection"]), st.sampled_from(["1", "2"])
holds = st.builds(
    Hold,
    kind=st.sampled_from(HoldKind),
    reason=st.just("a test"),
    tenant_id=st.none() | tenants,
    resource_type=st.none() | types,
    resource_id=st.none() | ids,
    first_day=st.none() | days,
    last_day=st.none() | days,
    until=st.none() | moments,
)


@given(moments, windows, st.times())
def test_no_row_goes_before_its_window_is_over_to_the_second(now: datetime, window: int, at: time) -> None:
    policy = Policy(now, {ACME: window})
    newest_due = first_kept_day(policy.today, window) - timedelta(days=1)
    written = datetime.combine(newest_due, at, UTC)
    assert policy.judge(ACME, newest_due) is Why.DUE
    assert now - written >= timedelta(days=window)


@given(moments, windows)
def test_a_row_goes_on_the_day_after_its_window(now: datetime, window: int) -> None:
    day = now.date() - timedelta(days=window)
    policy = Policy(now, {ACME: window})
    assert policy.judge(ACME, day) is Why.WINDOW
    assert Policy(now + timedelta(days=1), {ACME: window}).judge(ACME, day) is Why.DUE


@given(moments, tenants, days, windows, st.lists(holds, max_size=5))
def test_a_hold_in_force_beats_every_window(
    now: datetime, tenant: UUID, day: date, window: int, some: list[Hold]
) -> None:
    policy = Policy(now, {tenant: window}, tuple(some))
    held = any(hold.whole and hold.in_force(now) and hold.covers(tenant, day) for hold in some)
    assert (policy.judge(tenant, day) in (Why.LEGAL_HOLD, Why.RESTORED)) is held
    for hold in policy.resource_holds():
        assert hold.in_force(now)
        assert not hold.whole


@given(moments, tenants, days, windows, st.lists(holds, max_size=5))
def test_one_more_hold_never_lets_anything_go(
    now: datetime, tenant: UUID, day: date, window: int, some: list[Hold]
) -> None:
    fewer = Policy(now, {tenant: window}, tuple(some[:-1])).judge(tenant, day)
    more = Policy(now, {tenant: window}, tuple(some)).judge(tenant, day)
    assert more is not Why.DUE or fewer is Why.DUE


@given(moments, tenants, days, windows, windows)
def test_a_longer_window_never_lets_anything_go(now: datetime, tenant: UUID, day: date, one: int, other: int) -> None:
    longer = Policy(now, {tenant: max(one, other)}).judge(tenant, day)
    assert longer is not Why.DUE or Policy(now, {tenant: min(one, other)}).judge(tenant, day) is Why.DUE


@given(moments, days)
def test_a_tenant_that_nobody_knows_keeps_its_rows(now: datetime, day: date) -> None:
    assert Policy(now, {ACME: 365}).judge(GLOBEX, day) is Why.UNKNOWN_TENANT
    assert Policy(now, {}).cutoff(GLOBEX) is None


@given(moments, st.dictionaries(tenants, windows, min_size=1))
def test_nothing_of_the_latest_cutoff_or_later_is_due(now: datetime, kept: dict[UUID, int]) -> None:
    policy = Policy(now, kept)
    assert all(policy.judge(tenant, policy.latest_cutoff) is Why.WINDOW for tenant in kept)
    assert any(policy.judge(tenant, policy.latest_cutoff - timedelta(days=1)) is Why.DUE for tenant in kept)


@given(st.integers(-1000, 364))
def test_a_window_under_a_year_is_refused(days_kept: int) -> None:
    with pytest.raises(ShortWindowError, match="shorter than the 365"):
        Policy(NOW, {ACME: days_kept})
    with pytest.raises(ShortWindowError, match="Nothing was deleted"):
        require_window(days_kept, place="somewhere")


def test_a_cutoff_is_a_day_of_utc_wherever_the_clock_stands() -> None:
    evening_in_kingston = datetime.fromisoformat("2026-11-27T22:00:00-05:00")
    assert Policy(evening_in_kingston, {ACME: 365}).today == date(2026, 11, 28)


def test_a_restore_hold_ends_by_itself_and_a_legal_one_does_not() -> None:
    day = date(2024, 1, 1)
    restored = Hold(HoldKind.RESTORE, "an audit", ACME, until=NOW)
    legal = Hold(HoldKind.LEGAL, "a court", ACME)
    assert Policy(NOW - timedelta(seconds=1), {ACME: 365}, (restored,)).judge(ACME, day) is Why.RESTORED
    assert Policy(NOW, {ACME: 365}, (restored,)).judge(ACME, day) is Why.DUE
    assert Policy(NOW + timedelta(days=9999), {ACME: 365}, (legal, restored)).judge(ACME, day) is Why.LEGAL_HOLD


def test_windows_and_holds_come_from_the_overlay() -> None:
    overlay = f"""
tenants:
  - name: Acme Jamaica Ltd
    retention_days: 730
    legal_holds:
      - {{resource_type: airbyte_connection, resource_id: 7}}
      - {{resource_type: user}}
  - id: {GLOBEX}
    legal_hold: true
"""
    registry = built(raw_tenant(), raw_tenant(GLOBEX, "Globex"), raw_connection(), overlay=overlay)
    assert registry.tenant(ACME).legal_holds == (ResourceHold("airbyte_connection", "7"), ResourceHold("user"))
    policy = policy_of(registry, NOW)
    assert policy.windows == {ACME: 730, GLOBEX: 365}
    assert policy.judge(ACME, date(2024, 1, 1)) is Why.DUE
    assert policy.judge(ACME, date(2025, 1, 1)) is Why.WINDOW
    assert policy.judge(GLOBEX, date(2020, 1, 1)) is Why.LEGAL_HOLD
    held = [(hold.tenant_id, hold.resource_type, hold.resource_id) for hold in policy.resource_holds()]
    assert held == [(ACME, "airbyte_connection", "7"), (ACME, "user", None)]
