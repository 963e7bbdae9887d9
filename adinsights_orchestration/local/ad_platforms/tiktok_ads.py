"""TikTok's Business API: the integrated report, campaigns, ad groups, ads.

Belongs here: TikTok's envelope and numbered pages. Does not belong here: figures. Every answer, refusals included, is
HTTP 200 with `code` and `message` (0: fine, 40100: too many requests, 40105: bad token, 50000: their fault), so a
reader that looks at the status alone believes everything.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

from starlette.responses import JSONResponse, Response

from adinsights_orchestration.local.ad_platforms.accounts import Ad, Campaign, Group
from adinsights_orchestration.local.ad_platforms.endpoint import Call, Dialect, Endpoint, Json, Rows, from_query
from adinsights_orchestration.tenants.model import Provider

_LARGEST_PAGE = 1000


def _envelope(code: int, message: str, data: Json) -> Json:
    return {"code": code, "message": message, "request_id": "local", "data": data}


def _error(code: int, message: str) -> Response:
    return JSONResponse(_envelope(code, message, {}))


DIALECT = Dialect(
    provider=Provider.TIKTOK_ADS,
    token=lambda request: request.headers.get("access-token", ""),
    unauthorized=lambda: _error(40105, "Access token is incorrect or has been revoked."),
    forbidden=lambda account: _error(40001, f"No permission to operate advertiser {account}"),
    rate_limited=lambda: _error(40100, "Requests made too frequently."),
    unavailable=lambda: _error(50000, "System error"),
    bad_request=lambda message: _error(40002, message),
)


def _when(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def _page(call: Call, rows: Rows) -> Json:
    page, size = int(call.query.get("page", "1")), min(int(call.query.get("page_size", "10")), _LARGEST_PAGE)
    info = {"page": page, "page_size": size, "total_number": len(rows), "total_page": -(-len(rows) // size)}
    return _envelope(0, "OK", {"list": rows.page((page - 1) * size, size), "page_info": info})


def _report(call: Call) -> Rows:
    if json.loads(call.query.get("dimensions", "[]")) != ["ad_id", "stat_time_day"]:
        raise ValueError("only dimensions ad_id and stat_time_day are served")
    span = date.fromisoformat(call.query["start_date"]), date.fromisoformat(call.query["end_date"])
    wanted = set(json.loads(call.query["metrics"]))
    items = [(day, ad) for day in call.world.days(call.account, *span) for ad in call.world.ads(call.account)]

    def shape(item: tuple[date, Ad]) -> Json:
        day, ad = item
        picked = {name: value for name, value in _metrics(call, day, ad).items() if name in wanted}
        return {"dimensions": {"ad_id": ad.id, "stat_time_day": f"{day} 00:00:00"}, "metrics": picked}

    return Rows(items, shape)


def _metrics(call: Call, day: date, ad: Ad) -> Json:
    metrics = call.world.ad_day(ad, day, call.now)
    return {
        "campaign_id": ad.campaign.id,
        "adgroup_id": ad.group.id,
        "currency": ad.campaign.account.tenant.currency,
        "impressions": str(metrics.impressions),
        "clicks": str(metrics.clicks),
        "spend": f"{metrics.spend_micros / 1_000_000:.2f}",
        "conversion": str(metrics.conversions),
        "complete_payment_value": f"{metrics.revenue_micros / 1_000_000:.2f}",
    }


def _campaign(call: Call, campaign: Campaign) -> Json:
    status = call.world.status(campaign, call.now)
    return {
        "campaign_id": campaign.id,
        "advertiser_id": campaign.account.id,
        "campaign_name": campaign.name,
        "operation_status": "ENABLE" if status.active else "DISABLE",
        "budget": status.daily_budget / 100,
        "budget_mode": "BUDGET_MODE_DAY",
        "modify_time": _when(status.changed_at),
    }


def _ad_group(call: Call, group: Group) -> Json:
    status = call.world.status(group, call.now)
    return {
        "adgroup_id": group.id,
        "advertiser_id": group.campaign.account.id,
        "campaign_id": group.campaign.id,
        "adgroup_name": group.name,
        "operation_status": "ENABLE" if status.active else "DISABLE",
        "budget": status.daily_budget / 100,
        "modify_time": _when(status.changed_at),
    }


def _ad(_: Call, ad: Ad) -> Json:
    return {
        "ad_id": ad.id,
        "advertiser_id": ad.campaign.account.id,
        "campaign_id": ad.campaign.id,
        "adgroup_id": ad.group.id,
        "ad_name": ad.name,
        "operation_status": "ENABLE",
        "modify_time": _when(ad.campaign.starts),
    }


def _listing(items: Callable[[Call], Any], shape: Callable[[Call, Any], Json]) -> Callable[[Call], Rows]:
    return lambda call: Rows(items(call), lambda item: shape(call, item))


def _endpoint(name: str, rows: Callable[[Call], Rows], *, report: bool = False) -> Endpoint:
    return Endpoint(f"/open_api/{{version}}/{name}/", from_query("advertiser_id"), rows, _page, report=report)


ENDPOINTS = (
    _endpoint("report/integrated/get", _report, report=True),
    _endpoint("campaign/get", _listing(lambda call: call.world.campaigns(call.account), _campaign)),
    _endpoint("adgroup/get", _listing(lambda call: call.world.groups(call.account), _ad_group)),
    _endpoint("ad/get", _listing(lambda call: call.world.ads(call.account), _ad)),
)
