"""LinkedIn's Marketing API: ad analytics by creative, campaigns, creatives.

Belongs here: Rest.li's query syntax, URNs and two ways of paging (`start`/`count` and `pageToken`). Does not belong
here: figures. LinkedIn's campaign group, campaign and creative are the world's campaign, group and ad.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime
from typing import Any

from starlette.responses import JSONResponse, Response

from adinsights_orchestration.local.ad_platforms.accounts import Ad, Group
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
from adinsights_orchestration.tenants.model import Provider

_LARGEST_PAGE = 1000
_RANGE_DATE = r"\(year:(\d{4}),month:(\d{1,2}),day:(\d{1,2})\)"
_RANGE = re.compile(rf"\(start:{_RANGE_DATE},end:{_RANGE_DATE}\)")
_PIVOTS = "List(CREATIVE,CAMPAIGN,CAMPAIGN_GROUP)"
_ACCOUNT_URN = re.compile(r"List\(urn(?::|%3A)li(?::|%3A)sponsoredAccount(?::|%3A)(\d+)\)")


def _error(status: int, code: str, message: str) -> Response:
    return JSONResponse({"status": status, "code": code, "message": message}, status)


DIALECT = Dialect(
    provider=Provider.LINKEDIN_ADS,
    token=bearer_token,
    unauthorized=lambda: _error(401, "REVOKED_ACCESS_TOKEN", "The token used in the request has been revoked"),
    forbidden=lambda account: _error(403, "ACCESS_DENIED", f"Not enough permissions to access account {account}"),
    rate_limited=lambda: _error(429, "QUOTA_EXCEEDED", "Resource level throttle DAY limit for calls reached"),
    unavailable=lambda: _error(503, "SERVICE_UNAVAILABLE", "Internal Server Error"),
    bad_request=lambda message: _error(400, "ILLEGAL_ARGUMENT", message),
)


def _urn(kind: str, identity: str) -> str:
    return f"urn:li:sponsored{kind}:{identity}"


def _parts(day: date) -> Json:
    return {"year": day.year, "month": day.month, "day": day.day}


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)


def _account(call: Call) -> Rows:
    account = call.account
    row = {"id": int(account.id), "name": account.tenant.site, "currency": account.tenant.currency, "status": "ACTIVE"}
    return Rows([row], dict)


def _analytics(call: Call) -> Rows:
    span = _RANGE.fullmatch(call.query.get("dateRange", ""))
    if span is None or call.query.get("pivots") != _PIVOTS or call.query.get("timeGranularity") != "DAILY":
        raise ValueError(f"expected q=statistics, pivots={_PIVOTS}, timeGranularity=DAILY and a dateRange")
    numbers = [int(number) for number in span.groups()]
    days = call.world.days(call.account, date(*numbers[:3]), date(*numbers[3:]))
    items = [(day, ad) for day in days for ad in call.world.ads(call.account)]

    def shape(item: tuple[date, Ad]) -> Json:
        return _analytics_row(call, *item)

    return Rows(items, shape)


def _analytics_row(call: Call, day: date, ad: Ad) -> Json:
    metrics = call.world.ad_day(ad, day, call.now)
    pivots = (("Creative", ad.id), ("Campaign", ad.group.id), ("CampaignGroup", ad.campaign.id))
    return {
        "dateRange": {"start": _parts(day), "end": _parts(day)},
        "pivotValues": [_urn(kind, identity) for kind, identity in pivots],
        "impressions": metrics.impressions,
        "clicks": metrics.clicks,
        "costInLocalCurrency": f"{metrics.spend_micros / 1_000_000:.2f}",
        "externalWebsiteConversions": metrics.conversions,
        "conversionValueInLocalCurrency": f"{metrics.revenue_micros / 1_000_000:.2f}",
    }


def _campaign(call: Call, group: Group) -> Json:
    status, account = call.world.status(group, call.now), group.campaign.account
    return {
        "id": int(group.id),
        "account": _urn("Account", account.id),
        "campaignGroup": _urn("CampaignGroup", group.campaign.id),
        "name": f"{group.campaign.name} / {group.name}",
        "status": "ACTIVE" if status.active else "PAUSED",
        "dailyBudget": {"amount": f"{status.daily_budget / 100:.2f}", "currencyCode": account.tenant.currency},
        "changeAuditStamps": {"lastModified": {"time": _milliseconds(status.changed_at)}},
    }


def _creative(_: Call, ad: Ad) -> Json:
    return {
        "id": _urn("Creative", ad.id),
        "account": _urn("Account", ad.campaign.account.id),
        "campaign": _urn("Campaign", ad.group.id),
        "name": ad.name,
        "intendedStatus": "ACTIVE",
        "lastModifiedAt": _milliseconds(ad.campaign.starts),
    }


def _numbered(call: Call, rows: Rows) -> Json:
    start, count = int(call.query.get("start", "0")), min(int(call.query.get("count", "100")), _LARGEST_PAGE)
    return {"paging": {"start": start, "count": count, "links": []}, "elements": rows.page(start, count)}


def _tokened(call: Call, rows: Rows) -> Json:
    start, count = offset_of(call.query.get("pageToken")), min(int(call.query.get("pageSize", "100")), _LARGEST_PAGE)
    elements = rows.page(start, count)
    more = {"nextPageToken": cursor_of(start + count)} if start + count < len(rows) else {}
    return {"metadata": more, "elements": elements}


def _analytics_account(request: Any) -> str:
    found = _ACCOUNT_URN.fullmatch(request.query_params.get("accounts", ""))
    return found[1] if found else ""


def _listing(items: Callable[[Call], Any], shape: Callable[[Call, Any], Json]) -> Callable[[Call], Rows]:
    return lambda call: Rows(items(call), lambda item: shape(call, item))


ENDPOINTS = (
    Endpoint("/rest/adAnalytics", _analytics_account, _analytics, _numbered, report=True),
    Endpoint("/rest/adAccounts/{account_id}", from_path("account_id"), _account, lambda _, rows: rows.page(0, 1)[0]),
    Endpoint(
        "/rest/adAccounts/{account_id}/adCampaigns",
        from_path("account_id"),
        _listing(lambda call: call.world.groups(call.account), _campaign),
        _tokened,
    ),
    Endpoint(
        "/rest/adAccounts/{account_id}/creatives",
        from_path("account_id"),
        _listing(lambda call: call.world.ads(call.account), _creative),
        _tokened,
    ),
)
