"""The world that the ad platforms report on: stable, consistent with itself, and late where platforms are late."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adinsights_orchestration.local.ad_platforms.accounts import Account, WorldSize
from adinsights_orchestration.local.ad_platforms.metrics import Metrics, known, maturity, split
from adinsights_orchestration.local.ad_platforms.places import MARKETS, PARISHES, spellings_of_parish
from adinsights_orchestration.local.ad_platforms.seeded import apportion
from adinsights_orchestration.local.ad_platforms.world import World
from adinsights_orchestration.tenants.model import Provider

NOON = datetime(2026, 6, 17, 17, 0, tzinfo=UTC)  # noon in Jamaica, a Wednesday
FINGERPRINT = """
from datetime import UTC, date, datetime
from adinsights_orchestration.local.ad_platforms.world import World
from adinsights_orchestration.tenants.model import Provider
world = World(clock=lambda: datetime(2026, 6, 17, 17, 0, tzinfo=UTC))
account = world.accounts(world.tenants[0], Provider.META)[0]
print(account.id, world.access_token(world.tenants[0], Provider.META))
for ad in world.ads(account):
    print(ad, world.region_days(ad, date(2026, 6, 1), world.clock()), world.status(ad.group, world.clock()))
"""


@pytest.fixture
def world() -> World:
    return World(clock=lambda: NOON)


def account_of(world: World, slug: str, provider: Provider) -> Account:
    return world.accounts(world.tenant(slug), provider)[0]


def test_two_processes_hold_the_same_world() -> None:
    outputs = {
        subprocess.run(
            [sys.executable, "-c", FINGERPRINT],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert len(outputs.pop().splitlines()) > 10


def test_another_seed_is_another_world() -> None:
    first, second = (account_of(World(seed), "acme-jamaica", Provider.META) for seed in (1, 2))
    assert first.id != second.id


def test_the_local_tenants_have_the_eight_connections_between_them(world: World) -> None:
    found = {(t.slug, p) for t in world.tenants for p in t.providers}
    assert found == {
        ("acme-jamaica", Provider.META),
        ("acme-jamaica", Provider.GOOGLE_ADS),
        ("acme-jamaica", Provider.GA4),
        ("globex-london", Provider.META),
        ("globex-london", Provider.LINKEDIN_ADS),
        ("globex-london", Provider.SEARCH_CONSOLE),
        ("initech-ny", Provider.GOOGLE_ADS),
        ("initech-ny", Provider.TIKTOK_ADS),
    }


def test_size_says_how_much_there_is() -> None:
    world = World(size=WorldSize(accounts=2, campaigns=3, groups=2, ads=4))
    account = account_of(world, "acme-jamaica", Provider.META)
    assert len(world.accounts(world.tenant("acme-jamaica"), Provider.META)) == 2
    assert (len(world.campaigns(account)), len(world.groups(account)), len(world.ads(account))) == (3, 6, 24)


def test_no_two_things_of_an_account_share_an_id() -> None:
    world = World(size=WorldSize(accounts=3, campaigns=7, groups=3, ads=3))
    for tenant in world.tenants:
        for provider in tenant.providers:
            accounts = world.accounts(tenant, provider)
            ids = Counter(account.id for account in accounts)
            for account in accounts:
                ids.update(ad.id for ad in world.ads(account))
                ids.update(group.id for group in world.groups(account))
                ids.update(campaign.id for campaign in world.campaigns(account))
            assert max(ids.values()) == 1


def test_a_days_conversions_grow_for_three_days_and_then_stand_still(world: World) -> None:
    account = account_of(world, "acme-jamaica", Provider.META)
    day = world.today(account)
    totals = []
    for age in range(6):
        now = NOON + timedelta(days=age, hours=11)  # 23:00 on the spot
        totals.append(sum((world.ad_day(ad, day, now) for ad in world.ads(account)), Metrics()).conversions)
    assert totals[0] < totals[1] < totals[2] < totals[3]
    assert totals[3] == totals[4] == totals[5]


def test_today_grows_with_the_clock_and_clicks_do_not_change_afterwards(world: World) -> None:
    account = account_of(world, "acme-jamaica", Provider.META)
    ad, day = world.ads(account)[0], world.today(account)
    morning, evening, tomorrow, week = (
        world.ad_day(ad, day, NOON + shift)
        for shift in (timedelta(hours=-4), timedelta(hours=8), timedelta(days=1), timedelta(days=7))
    )
    assert morning.impressions < evening.impressions < tomorrow.impressions == week.impressions
    assert tomorrow.clicks == week.clicks
    assert tomorrow.spend_micros == week.spend_micros


def test_days_begin_where_the_account_is() -> None:
    moment = datetime(2026, 6, 18, 3, 0, tzinfo=UTC)  # already the 18th in London, still the 17th in Jamaica
    world = World(clock=lambda: moment)
    assert world.today(account_of(world, "acme-jamaica", Provider.META)) == date(2026, 6, 17)
    assert world.today(account_of(world, "globex-london", Provider.META)) == date(2026, 6, 18)


def test_there_is_no_data_about_days_to_come(world: World) -> None:
    account = account_of(world, "acme-jamaica", Provider.META)
    days = list(world.days(account, date(2026, 6, 15), date(2026, 6, 30)))
    assert days == [date(2026, 6, 15), date(2026, 6, 16), date(2026, 6, 17)]


def test_regions_sum_to_the_ads_day(world: World) -> None:
    account = account_of(world, "globex-london", Provider.META)
    for ad in world.ads(account):
        parts = world.region_days(ad, date(2026, 6, 1), NOON)
        assert sum((p.metrics for p in parts), Metrics()) == world.ad_day(ad, date(2026, 6, 1), NOON)
        assert len({p.region.spelling for p in parts}) == len(parts)


def test_some_days_are_idle_and_some_regions_are_empty(world: World) -> None:
    account = account_of(world, "acme-jamaica", Provider.META)
    days = [world.ad_day(ad, day, NOON) for ad in world.ads(account) for day in _last_days(world, account, 60)]
    assert 0 < sum(day == Metrics() for day in days) < len(days) / 10
    month = _last_days(world, account, 30)
    parts = [p.metrics for ad in world.ads(account) for day in month for p in world.region_days(ad, day, NOON)]
    assert any(part.impressions and not part.clicks for part in parts)


def test_business_platforms_rest_at_weekends(world: World) -> None:
    account = account_of(world, "globex-london", Provider.LINKEDIN_ADS)
    saturday, tuesday = date(2026, 6, 6), date(2026, 6, 9)
    totals = [sum(world.ad_day(ad, day, NOON).impressions for ad in world.ads(account)) for day in (saturday, tuesday)]
    assert totals[0] < totals[1] / 2


def test_jamaican_audiences_are_spelt_in_many_ways_and_partly_live_elsewhere() -> None:
    world = World(size=WorldSize(campaigns=40), clock=lambda: NOON)
    account = account_of(world, "acme-jamaica", Provider.META)
    regions = {r for c in world.campaigns(account) for r in world.regions(c)}
    spellings = {r.spelling for r in regions if r.country == "JM"}
    known_spellings = {s: parish for parish in PARISHES for s in spellings_of_parish(parish)}
    assert set(spellings) <= set(known_spellings)
    assert {known_spellings[s] for s in spellings} == set(PARISHES)
    assert len(spellings) > 2 * len(PARISHES)
    assert {r.country for r in regions} >= {"JM", "US", "GB", "ZZ"}


def test_every_market_has_foreign_and_unknown_regions() -> None:
    for places in MARKETS.values():
        assert len({place.country for place in places}) >= 4
        assert any(place.country == "ZZ" for place in places)


def test_budgets_change_at_times_and_say_when(world: World) -> None:
    campaign = world.campaigns(account_of(world, "acme-jamaica", Provider.META))[0]
    seen = [world.status(campaign, NOON - timedelta(days=age)) for age in range(90)]
    changes = {status.changed_at for status in seen}
    assert 5 < len(changes) < 30
    assert len({status.daily_budget for status in seen}) > 2
    for age, status in enumerate(seen):
        assert campaign.starts <= status.changed_at <= NOON - timedelta(days=age)


def test_a_change_later_today_is_not_known_yet(world: World) -> None:
    campaign = world.campaigns(account_of(world, "acme-jamaica", Provider.META))[0]
    changed_at = world.status(campaign, NOON).changed_at
    assert world.status(campaign, changed_at).changed_at == changed_at
    assert world.status(campaign, changed_at - timedelta(seconds=1)).changed_at < changed_at


def test_budgets_are_near_what_the_ads_cost(world: World) -> None:
    account = account_of(world, "globex-london", Provider.META)
    day = date(2026, 6, 1)
    spent = sum(world.ad_day(ad, day, NOON).spend_micros for ad in world.ads(account)) / 1e6
    budget = sum(world.status(campaign, NOON).daily_budget for campaign in world.campaigns(account)) / 100
    assert 0.4 < spent / budget < 2.5


def test_names_are_not_plain_ascii(world: World) -> None:
    for tenant in world.tenants:
        names = [c.name for p in tenant.providers for a in world.accounts(tenant, p) for c in world.campaigns(a)]
        assert any(not name.isascii() for name in names)


def test_an_unknown_tenant_is_named_together_with_the_known_ones(world: World) -> None:
    with pytest.raises(KeyError, match=r"nobody.*acme-jamaica"):
        world.tenant("nobody")


@given(st.integers(0, 10**9), st.lists(st.floats(0, 1e6), min_size=1, max_size=20))
def test_parts_sum_to_the_total_and_none_is_negative(total: int, weights: list[float]) -> None:
    parts = apportion(total, weights)
    assert len(parts) == len(weights)
    assert all(part >= 0 for part in parts)
    assert sum(parts) == (total if any(weights) else 0)


def _day(impressions: int, clicks: int, orders: int, spend: int, revenue: int) -> Metrics:
    conversions = min(orders, clicks)
    return Metrics(
        impressions=impressions,
        clicks=clicks,
        reach=impressions // 2,
        spend_micros=spend * 10_000 if clicks else 0,
        conversions=conversions,
        revenue_micros=revenue * 10_000 if conversions else 0,
    )


metrics = st.builds(
    _day,
    impressions=st.integers(1_000, 10**6),
    clicks=st.integers(0, 1_000),
    orders=st.integers(0, 50),
    spend=st.integers(0, 10**6),
    revenue=st.integers(0, 10**6),
)


@given(metrics, st.lists(st.floats(0.01, 1.0), min_size=1, max_size=6))
def test_split_days_keep_their_totals_and_no_region_earns_without_orders(day: Metrics, weights: list[float]) -> None:
    parts = split(day, tuple(weights))
    assert sum(parts, Metrics()) == day
    assert all(part.conversions or not part.revenue_micros for part in parts)
    assert all(part.clicks or not part.spend_micros for part in parts)


@given(metrics, st.lists(st.integers(0, 6 * 24 * 60), min_size=2, max_size=6).map(sorted), st.floats(0, 0.999))
def test_what_is_known_never_shrinks(day: Metrics, minutes: list[int], phase: float) -> None:
    zone = ZoneInfo("America/Jamaica")
    midnight = datetime(2026, 3, 1, tzinfo=zone)
    seen = [known(day, maturity(midnight.date(), midnight + timedelta(minutes=m), zone), phase) for m in minutes]
    for earlier, later in itertools.pairwise(seen):
        assert earlier.impressions <= later.impressions
        assert earlier.conversions <= later.conversions
        assert earlier.revenue_micros <= later.revenue_micros
        assert later.conversions <= later.clicks
    assert known(day, maturity(midnight.date(), midnight + timedelta(days=3), zone), phase) == day


def _last_days(world: World, account: Account, count: int) -> list[date]:
    today = world.today(account)
    return list(world.days(account, today - timedelta(days=count), today - timedelta(days=1)))
