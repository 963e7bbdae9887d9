"""Search Console: `searchAnalytics/query` by date, query, country and device.

Belongs here: the API's keyed rows and row offsets; and, because only Search Console has them, the searches themselves.
Does not belong here: anything about ads. Data are final when they appear, two days late, so a sync never sees today.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from adinsights_orchestration.local.ad_platforms.accounts import Account
from adinsights_orchestration.local.ad_platforms.endpoint import Call, Endpoint, Json, Rows, from_path
from adinsights_orchestration.local.ad_platforms.google import google_dialect
from adinsights_orchestration.local.ad_platforms.metrics import seasonality
from adinsights_orchestration.local.ad_platforms.seeded import between, unit, units
from adinsights_orchestration.tenants.model import Provider

DIALECT = google_dialect(Provider.SEARCH_CONSOLE)
PUBLISHED_AFTER = timedelta(days=2)
_DIMENSIONS = ["date", "query", "country", "device"]
_LARGEST_PAGE = 25_000
_DEVICES = (("MOBILE", 1.0), ("DESKTOP", 0.6), ("TABLET", 0.06))
_COUNTRIES: Mapping[str, tuple[tuple[str, float], ...]] = {
    "jamaica": (("jam", 1.0), ("usa", 0.25)),
    "britain": (("gbr", 1.0), ("irl", 0.15)),
    "america": (("usa", 1.0), ("can", 0.12)),
}
_QUERIES = (
    "{brand}",
    "{brand} opening hours",
    "best coffee near me",
    "café à emporter",
    "holiday deals",
    "what is a flexi fare",
    "zürich weekend",
    "{brand} discount code",
    "blue mountain ☕ price",
    "returns policy",
)


@dataclass(frozen=True, slots=True)
class _Search:
    query: str
    country: str
    device: str
    impressions: float


def _searches(account: Account, seed: int) -> list[_Search]:
    brand = account.tenant.site.partition(".")[0].replace("-", " ")
    return [
        _Search(query, country, device, between(20, 400, unit(seed, account.id, query)) * size * share)
        for query in (text.format(brand=brand) for text in _QUERIES)
        for country, size in _COUNTRIES[account.tenant.market]
        for device, share in _DEVICES
    ]


def _row(call: Call, day: date, search: _Search) -> Json:
    volume, rate, place = units(3, call.world.seed, call.account.id, day, search.query, search.country, search.device)
    seasonal = search.impressions * seasonality(Provider.SEARCH_CONSOLE, day)
    impressions = round(seasonal * between(0.4, 1.6, volume))
    clicks = int(impressions * between(0.0, 0.12, rate))
    return {
        "keys": [day.isoformat(), search.query, search.country, search.device],
        "clicks": float(clicks),
        "impressions": float(impressions),
        "ctr": clicks / impressions if impressions else 0.0,
        "position": round(between(1, 40, place), 6),
    }


def _query(call: Call) -> Rows:
    if call.body.get("dimensions") != _DIMENSIONS:
        raise ValueError(f"only dimensions {', '.join(_DIMENSIONS)} are served")
    newest = call.world.today(call.account) - PUBLISHED_AFTER
    until = min(date.fromisoformat(call.body["endDate"]), newest)
    days = call.world.days(call.account, date.fromisoformat(call.body["startDate"]), until)
    searches = _searches(call.account, call.world.seed)
    return Rows([(day, search) for day in days for search in searches], lambda item: _row(call, *item))


def _page(call: Call, rows: Rows) -> Json:
    data = rows.page(int(call.body.get("startRow", 0)), min(int(call.body.get("rowLimit", 1000)), _LARGEST_PAGE))
    return {"responseAggregationType": "byPage", **({"rows": data} if data else {})}


ENDPOINTS = (
    Endpoint(
        "/webmasters/v3/sites/{site_url:path}/searchAnalytics/query",
        from_path("site_url"),
        _query,
        _page,
        method="POST",
        report=True,
    ),
)
