"""The Google Ads API: `googleAds:search` over campaigns and the geographic view.

Belongs here: the little of the query language that reports need, and the shape of its rows. Does not belong here:
figures. Whole numbers come as strings (protobuf's int64 in JSON), amounts in micros. The region is given with its name
beside the geo target's resource name, where Google makes a second query necessary.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date

from adinsights_orchestration.local.ad_platforms.accounts import Campaign
from adinsights_orchestration.local.ad_platforms.endpoint import (
    Call,
    Endpoint,
    Json,
    Rows,
    cursor_of,
    from_path,
    offset_of,
)
from adinsights_orchestration.local.ad_platforms.google import google_dialect
from adinsights_orchestration.local.ad_platforms.metrics import Metrics
from adinsights_orchestration.local.ad_platforms.seeded import identifier
from adinsights_orchestration.local.ad_platforms.world import Region
from adinsights_orchestration.tenants.model import Provider

DIALECT = google_dialect(Provider.GOOGLE_ADS)
_PAGE_ROWS = 500  # the real API fixes the size too, at 10,000
_QUERY = re.compile(
    r"\bFROM\s+(?P<resource>\w+)\b.*\bsegments\.date\s+BETWEEN\s+'(?P<since>[\d-]+)'\s+AND\s+'(?P<until>[\d-]+)'",
    re.IGNORECASE | re.DOTALL,
)
_Line = tuple[date, Campaign, Region | None, Metrics]


def _amounts(metrics: Metrics) -> Json:
    return {
        "impressions": str(metrics.impressions),
        "clicks": str(metrics.clicks),
        "costMicros": str(metrics.spend_micros),
        "conversions": float(metrics.conversions),
        "conversionsValue": metrics.revenue_micros / 1_000_000,
    }


def _campaign_days(call: Call, days: list[date]) -> list[_Line]:
    totals: dict[tuple[date, Campaign], Metrics] = {}
    for day in days:
        for ad in call.world.ads(call.account):
            key = (day, ad.campaign)
            totals[key] = totals.get(key, Metrics()) + call.world.ad_day(ad, day, call.now)
    return [(day, campaign, None, metrics) for (day, campaign), metrics in totals.items()]


def _region_days(call: Call, days: list[date]) -> list[_Line]:
    totals: dict[tuple[date, Campaign, Region], Metrics] = {}
    for day in days:
        for ad in call.world.ads(call.account):
            for part in call.world.region_days(ad, day, call.now):
                key = (day, ad.campaign, part.region)
                totals[key] = totals.get(key, Metrics()) + part.metrics
    return [(day, campaign, region, metrics) for (day, campaign, region), metrics in totals.items()]


def _campaign_row(call: Call) -> Callable[[_Line], Json]:
    def shape(line: _Line) -> Json:
        day, campaign, _, metrics = line
        status = call.world.status(campaign, call.now)
        return {
            "customer": {"id": campaign.account.id, "currencyCode": campaign.account.tenant.currency},
            "campaign": {"id": campaign.id, "name": campaign.name, "status": "ENABLED" if status.active else "PAUSED"},
            "campaignBudget": {"amountMicros": str(status.daily_budget * 10_000)},
            "segments": {"date": day.isoformat()},
            "metrics": _amounts(metrics),
        }

    return shape


def _region_row(call: Call) -> Callable[[_Line], Json]:
    def shape(line: _Line) -> Json:
        day, campaign, region, metrics = line
        assert region is not None
        target = identifier(7, 0, call.world.seed, region.spelling, region.country)
        return {
            "customer": {"id": campaign.account.id},
            "campaign": {"id": campaign.id},
            "geoTargetConstant": {"name": region.spelling, "countryCode": region.country},
            "segments": {"date": day.isoformat(), "geoTargetRegion": f"geoTargetConstants/{target}"},
            "metrics": _amounts(metrics),
        }

    return shape


_RESOURCES = {"campaign": (_campaign_days, _campaign_row), "geographic_view": (_region_days, _region_row)}


def _search(call: Call) -> Rows:
    query = _QUERY.search(str(call.body.get("query", "")))
    if query is None or query["resource"].lower() not in _RESOURCES:
        raise ValueError("expected a query FROM campaign or geographic_view with segments.date BETWEEN two dates")
    lines, row = _RESOURCES[query["resource"].lower()]
    days = call.world.days(call.account, date.fromisoformat(query["since"]), date.fromisoformat(query["until"]))
    return Rows(lines(call, list(days)), row(call))


def _page(call: Call, rows: Rows) -> Json:
    start = offset_of(call.body.get("pageToken"))
    results = rows.page(start, _PAGE_ROWS)
    body: Json = {"fieldMask": "segments.date,metrics", "requestId": "local"}
    if results:
        body["results"] = results
    if start + len(results) < len(rows):
        body["nextPageToken"] = cursor_of(start + len(results))
    return body


ENDPOINTS = (
    Endpoint(
        "/{version}/customers/{customer_id}/googleAds:search",
        from_path("customer_id"),
        _search,
        _page,
        method="POST",
        report=True,
    ),
)
