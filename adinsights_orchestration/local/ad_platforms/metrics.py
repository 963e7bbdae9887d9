"""How ads perform: a day's final figures, and how much of them a platform already knows.

Belongs here: the arithmetic of one ad on one day and of late conversions. Does not belong here: which ads exist
(`world`) and how a platform writes the figures down. A day's conversions keep growing for three days after it, which is
what the connectors' lookback is for; the current day grows with the clock.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo

from adinsights_orchestration.local.ad_platforms.seeded import apportion, between, units
from adinsights_orchestration.tenants.model import Provider

CENT = 10_000  # micros
LATE_CONVERSION_DAYS = 3
# Share of a day's conversions that is attributed 0, 1 and 2 days later; all of them from the third day on.
ATTRIBUTED_BY_AGE = (0.55, 0.80, 0.93)
UNITS_PER_USD: Mapping[str, float] = {"JMD": 156.0, "GBP": 0.8, "USD": 1.0}
_CONSUMER_WEEK = (0.90, 0.92, 0.95, 1.00, 1.10, 1.25, 1.15)
_BUSINESS_WEEK = (1.15, 1.20, 1.20, 1.15, 1.00, 0.35, 0.30)
_IDLE_DAY_SHARE = 0.03


@dataclass(frozen=True, slots=True)
class Metrics:
    """Counts and amounts of one thing on one day; amounts in micros of the account's currency, whole cents."""

    impressions: int = 0
    clicks: int = 0
    reach: int = 0
    spend_micros: int = 0
    conversions: int = 0
    revenue_micros: int = 0

    def __add__(self, other: Metrics) -> Metrics:
        return Metrics(
            self.impressions + other.impressions,
            self.clicks + other.clicks,
            self.reach + other.reach,
            self.spend_micros + other.spend_micros,
            self.conversions + other.conversions,
            self.revenue_micros + other.revenue_micros,
        )


@dataclass(frozen=True, slots=True)
class Traits:
    """What is typical of one ad: impressions a day, click rate, price per click, conversion rate, value of an order."""

    impressions: float
    click_rate: float
    usd_per_click: float
    conversion_rate: float
    usd_per_order: float

    @property
    def usd_per_day(self) -> float:
        """What the ad costs on an ordinary day."""
        return self.impressions * self.click_rate * self.usd_per_click


@dataclass(frozen=True, slots=True)
class Maturity:
    """How much of a day's final figures a platform knows.

    Args:
        elapsed: Share of the day that is over; 1 for days before today.
        attributed: Share of the conversions so far that the platform has attributed.
    """

    elapsed: float
    attributed: float


def maturity(day: date, now: datetime, zone: ZoneInfo) -> Maturity:
    """Returns how complete `day` is at `now` in the account's own timezone; a day to come is empty."""
    local = now.astimezone(zone)
    age = (local.date() - day).days
    if age < 0:
        return Maturity(0.0, 0.0)
    attributed = ATTRIBUTED_BY_AGE[age] if age < LATE_CONVERSION_DAYS else 1.0
    minutes = local.hour * 60 + local.minute
    return Maturity(minutes / 1440 if age == 0 else 1.0, attributed)


def traits(*parts: object) -> Traits:
    """Returns the traits of the ad that `parts` name."""
    volume, clicks, price, conversions, order = units(5, "traits", *parts)
    return Traits(
        impressions=between(800, 6_000, volume),
        click_rate=between(0.006, 0.032, clicks),
        usd_per_click=between(0.12, 0.90, price),
        conversion_rate=between(0.015, 0.07, conversions),
        usd_per_order=between(25, 90, order),
    )


def seasonality(provider: Provider, day: date) -> float:
    """Returns the day's factor: the week's rhythm (business platforms rest at weekends) and a slow yearly wave."""
    week = _BUSINESS_WEEK if provider is Provider.LINKEDIN_ADS else _CONSUMER_WEEK
    return week[day.weekday()] * (1 + 0.12 * math.sin(2 * math.pi * day.timetuple().tm_yday / 365))


def final_day(ad: Traits, currency: str, season: float, *parts: object) -> Metrics:
    """Returns an ad's final figures on the day that `parts` name; about one day in thirty is idle, all zeros."""
    volume, click, price, conversion, order, idle, reach = units(7, "day", *parts)
    if idle < _IDLE_DAY_SHARE:
        return Metrics()
    rate = UNITS_PER_USD[currency]
    impressions = round(ad.impressions * season * between(0.75, 1.25, volume))
    clicks = round(impressions * ad.click_rate * between(0.8, 1.2, click))
    conversions = round(clicks * ad.conversion_rate * between(0.6, 1.4, conversion))
    return Metrics(
        impressions=impressions,
        clicks=clicks,
        reach=round(impressions * between(0.6, 0.85, reach)),
        spend_micros=round(clicks * ad.usd_per_click * rate * between(0.9, 1.1, price) * 100) * CENT,
        conversions=conversions,
        revenue_micros=round(conversions * ad.usd_per_order * rate * between(0.8, 1.2, order) * 100) * CENT,
    )


def split(total: Metrics, weights: tuple[float, ...]) -> list[Metrics]:
    """Splits a day over places; the parts sum to `total` exactly, and money is only where its clicks and orders are."""
    clicks = apportion(total.clicks, weights)
    conversions = apportion(total.conversions, clicks)
    columns = (
        apportion(total.impressions, weights),
        clicks,
        apportion(total.reach, weights),
        [cents * CENT for cents in apportion(total.spend_micros // CENT, clicks)],
        conversions,
        [cents * CENT for cents in apportion(total.revenue_micros // CENT, conversions)],
    )
    return [Metrics(*values) for values in zip(*columns, strict=True)]


def known(final: Metrics, so_far: Maturity, phase: float = 0.0) -> Metrics:
    """Returns what the platform shows of `final`; it never shrinks as time passes.

    Args:
        final: The day's final figures.
        so_far: How much of them there is.
        phase: In [0, 1): how soon the next conversion is counted, so that single ones do not all arrive last.
    """
    if so_far.elapsed == so_far.attributed == 1.0:
        return final
    clicks = int(final.clicks * so_far.elapsed)
    conversions = min(clicks, int(final.conversions * so_far.elapsed * so_far.attributed + phase), final.conversions)
    return Metrics(
        impressions=int(final.impressions * so_far.elapsed),
        clicks=clicks,
        reach=int(final.reach * so_far.elapsed),
        spend_micros=_share_of_cents(final.spend_micros, clicks, final.clicks),
        conversions=conversions,
        revenue_micros=_share_of_cents(final.revenue_micros, conversions, final.conversions),
    )


def _share_of_cents(micros: int, part: int, whole: int) -> int:
    return micros // CENT * part // whole * CENT if whole else 0
