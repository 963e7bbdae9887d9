"""Meta's Graph API: insights by region, campaigns, ad sets, ads, with cursor paging.

Belongs here: the Graph API's paths, fields, paging and error codes. Does not belong here: figures. Insights carry
numbers as strings and leave out what is zero, budgets are strings in minor units, times carry the account's offset, and
errors carry a code of their own (17: too many calls, 190: the token is no longer valid).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import date, datetime, time
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from adinsights_orchestration.local.ad_platforms.accounts import Account, Ad, Campaign, Group
from adinsights_orchestration.local.ad_platforms.endpoint import (
    Call,
    Dialect,
    Endpoint,
    Json,
    Rows,
    bearer_token,
    cursor_of,
    from_path,
    offset_of,
)
from adinsights_orchestration.local.ad_platforms.metrics import Metrics
from adinsights_orchestration.local.ad_platforms.world import RegionDay
from adinsights_orchestration.tenants.model import Provider

_LARGEST_PAGE = 500
# One purchase is reported under each of these, and whoever adds them up counts it three times.
_PURCHASES = ("omni_purchase", "purchase", "offsite_conversion.fb_pixel_purchase")


def _error(status: int, code: int, message: str, kind: str = "OAuthException", **more: Any) -> Response:
    error = {"message": message, "type": kind, "code": code, "fbtrace_id": "AlocalTrace", **more}
    return JSONResponse({"error": error}, status)


def _token(request: Request) -> str:
    return bearer_token(request) or request.query_params.get("access_token", "")


DIALECT = Dialect(
    provider=Provider.META,
    token=_token,
    unauthorized=lambda: _error(401, 190, "Error validating access token: The session has been invalidated."),
    forbidden=lambda account: _error(403, 200, f"(#200) Ad account owner has NOT granted ads_read: {account}"),
    rate_limited=lambda: _error(429, 17, "User request limit reached", error_subcode=2446079, is_transient=True),
    unavailable=lambda: _error(500, 2, "Service temporarily unavailable", "ServiceException", is_transient=True),
    bad_request=lambda message: _error(400, 100, message),
)


def _page(call: Call, rows: Rows) -> Json:
    start, count = offset_of(call.query.get("after")), min(int(call.query.get("limit", "25")), _LARGEST_PAGE)
    data = rows.page(start, count)
    if not data:
        return {"data": []}
    after = cursor_of(start + len(data))
    paging: Json = {"cursors": {"before": cursor_of(start), "after": after}}
    if start + len(data) < len(rows):
        query = urlencode({**call.query, "after": after})
        paging["next"] = urlunsplit(urlsplit(call.url)._replace(query=query))
    return {"data": data, "paging": paging}


def _amount(micros: int) -> str:
    return f"{micros / 1_000_000:.2f}"


def _when(moment: datetime, account: Account) -> str:
    return moment.astimezone(account.zone).strftime("%Y-%m-%dT%H:%M:%S%z")


def _actions(metrics: Metrics) -> Json:
    counts = {
        "link_click": metrics.clicks * 9 // 10,
        "landing_page_view": metrics.clicks * 7 // 10,
        **dict.fromkeys(_PURCHASES, metrics.conversions),
    }
    found: Json = {}
    if listed := [{"action_type": kind, "value": str(count)} for kind, count in counts.items() if count]:
        found["actions"] = listed
    if metrics.revenue_micros:
        value = _amount(metrics.revenue_micros)
        found["action_values"] = [{"action_type": kind, "value": value} for kind in _PURCHASES]
    return found


def _insight(row: RegionDay) -> Json:
    ad, metrics = row.ad, row.metrics
    return {
        "account_id": ad.campaign.account.id,
        "account_currency": ad.campaign.account.tenant.currency,
        "campaign_id": ad.campaign.id,
        "campaign_name": ad.campaign.name,
        "adset_id": ad.group.id,
        "adset_name": ad.group.name,
        "ad_id": ad.id,
        "ad_name": ad.name,
        "impressions": str(metrics.impressions),
        "reach": str(metrics.reach),
        "clicks": str(metrics.clicks),
        "inline_link_clicks": str(metrics.clicks * 9 // 10),
        "spend": _amount(metrics.spend_micros),
        **_actions(metrics),
    }


def _insights(call: Call) -> Rows:
    if call.query.get("level") != "ad" or call.query.get("breakdowns") != "region":
        raise ValueError("only level=ad with breakdowns=region is served")
    span: Mapping[str, str] = json.loads(call.query["time_range"])
    days = call.world.days(call.account, date.fromisoformat(span["since"]), date.fromisoformat(span["until"]))
    ads, wanted = call.world.ads(call.account), set(call.query["fields"].split(","))
    found = [part for day in days for ad in ads for part in call.world.region_days(ad, day, call.now)]

    def shape(row: RegionDay) -> Json:
        picked = {name: value for name, value in _insight(row).items() if name in wanted}
        day = row.day.isoformat()
        return {**picked, "date_start": day, "date_stop": day, "region": row.region.spelling}

    return Rows(found, shape)


def _campaign(call: Call, campaign: Campaign) -> Json:
    account, status = campaign.account, call.world.status(campaign, call.now)
    ends = None if campaign.ends is None else datetime.combine(campaign.ends, time(23, 59, 59), account.zone)
    return {
        "id": campaign.id,
        "account_id": account.id,
        "name": campaign.name,
        "status": "ACTIVE" if status.active else "PAUSED",
        "objective": campaign.objective,
        "daily_budget": str(status.daily_budget),
        "lifetime_budget": "0",
        "start_time": _when(campaign.starts, account),
        "updated_time": _when(status.changed_at, account),
        **({"stop_time": _when(ends, account)} if ends else {}),
    }


def _adset(call: Call, group: Group) -> Json:
    status = call.world.status(group, call.now)
    return {
        "id": group.id,
        "account_id": group.campaign.account.id,
        "campaign_id": group.campaign.id,
        "name": group.name,
        "status": "ACTIVE" if status.active else "PAUSED",
        "daily_budget": str(status.daily_budget),
        "updated_time": _when(status.changed_at, group.campaign.account),
    }


def _ad(_: Call, ad: Ad) -> Json:
    creative = {
        "id": f"9{ad.id}",
        "title": ad.title,
        "body": ad.body,
        "object_type": "SHARE",
        "thumbnail_url": f"https://scontent.example/{ad.id}.jpg",
    }
    return {
        "id": ad.id,
        "account_id": ad.campaign.account.id,
        "campaign_id": ad.campaign.id,
        "adset_id": ad.group.id,
        "name": ad.name,
        "status": "ACTIVE",
        "creative": creative,
        "updated_time": _when(ad.campaign.starts, ad.campaign.account),
    }


def _listing(items: Callable[[Call], Any], shape: Callable[[Call, Any], Json]) -> Callable[[Call], Rows]:
    return lambda call: Rows(items(call), lambda item: shape(call, item))


def _endpoint(name: str, rows: Callable[[Call], Rows], *, report: bool = False) -> Endpoint:
    return Endpoint(f"/{{version}}/act_{{account_id}}/{name}", from_path("account_id"), rows, _page, report=report)


ENDPOINTS = (
    _endpoint("insights", _insights, report=True),
    _endpoint("campaigns", _listing(lambda call: call.world.campaigns(call.account), _campaign)),
    _endpoint("adsets", _listing(lambda call: call.world.groups(call.account), _adset)),
    _endpoint("ads", _listing(lambda call: call.world.ads(call.account), _ad)),
)
