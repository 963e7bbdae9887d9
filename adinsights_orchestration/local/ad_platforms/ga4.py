"""Google Analytics 4: `runReport` by source, medium and campaign, and the property's currency.

Belongs here: the Data API's positional rows, offset paging and the property of the Admin API; and, because only GA4
has them, the visits themselves. Does not belong here: anything about ads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from adinsights_orchestration.local.ad_platforms.accounts import CAMPAIGN_NAMES, Account
from adinsights_orchestration.local.ad_platforms.endpoint import Call, Endpoint, Json, Rows, from_path
from adinsights_orchestration.local.ad_platforms.google import google_dialect
from adinsights_orchestration.local.ad_platforms.metrics import UNITS_PER_USD, maturity, seasonality
from adinsights_orchestration.local.ad_platforms.seeded import between, units
from adinsights_orchestration.tenants.model import Provider

DIALECT = google_dialect(Provider.GA4)
_DIMENSIONS = ("date", "sessionSource", "sessionMedium", "sessionCampaignName")
_NOT_SET = "(not set)"
_ORGANIC_CHANNELS = (
    ("(direct)", "(none)", "(direct)", 900.0),
    ("google", "organic", "(organic)", 700.0),
    ("bing", "organic", "(organic)", 90.0),
    ("instagram.com", "referral", "(referral)", 140.0),
    (_NOT_SET, _NOT_SET, _NOT_SET, 12.0),
)
_PAID_CHANNELS = (("google", "cpc", 260.0), ("facebook", "paid_social", 220.0))


@dataclass(frozen=True, slots=True)
class _Channel:
    source: str
    medium: str
    campaign: str
    sessions: float


def _channels(account: Account, campaigns: int) -> list[_Channel]:
    named = CAMPAIGN_NAMES[account.tenant.market][:campaigns]
    paid = [_Channel(s, m, c, sessions / len(named)) for s, m, sessions in _PAID_CHANNELS for c in named]
    return [*(_Channel(*channel) for channel in _ORGANIC_CHANNELS), *paid]


def _visits(call: Call, day: date, channel: _Channel) -> Mapping[str, str]:
    """What is known of a day's visits; key events and revenue come in late like conversions."""
    account = call.account
    volume, users, new, engaged, events, value = units(
        6, call.world.seed, account.id, day, channel.source, channel.medium, channel.campaign
    )
    so_far = maturity(day, call.now, account.zone)
    final = round(channel.sessions * seasonality(Provider.GA4, day) * between(0.7, 1.3, volume))
    sessions, total_users = int(final * so_far.elapsed), int(final * between(0.75, 0.95, users) * so_far.elapsed)
    key_events = int(final * between(0.005, 0.04, events) * so_far.elapsed * so_far.attributed)
    order = between(20, 80, value) * UNITS_PER_USD[account.tenant.currency]
    return {
        "sessions": str(sessions),
        "totalUsers": str(total_users),
        "newUsers": str(int(total_users * between(0.3, 0.7, new))),
        "engagedSessions": str(int(sessions * between(0.45, 0.75, engaged))),
        "keyEvents": str(key_events),
        "purchaseRevenue": f"{key_events * order:.2f}",
    }


def _names(call: Call, kind: str) -> list[str]:
    return [str(item["name"]) for item in call.body.get(kind, [])]


def _report(call: Call) -> Rows:
    if tuple(_names(call, "dimensions")) != _DIMENSIONS:
        raise ValueError(f"only dimensions {', '.join(_DIMENSIONS)} are served")
    (span,) = call.body["dateRanges"]
    days = call.world.days(call.account, date.fromisoformat(span["startDate"]), date.fromisoformat(span["endDate"]))
    channels, metrics = _channels(call.account, call.world.size.campaigns), _names(call, "metrics")

    def shape(item: tuple[date, _Channel]) -> Json:
        day, channel = item
        visits = _visits(call, day, channel)
        dimensions = (day.strftime("%Y%m%d"), channel.source, channel.medium, channel.campaign)
        return {
            "dimensionValues": [{"value": value} for value in dimensions],
            "metricValues": [{"value": visits[name]} for name in metrics],
        }

    return Rows([(day, channel) for day in days for channel in channels], shape)


def _page(call: Call, rows: Rows) -> Json:
    data = rows.page(int(call.body.get("offset", 0)), int(call.body.get("limit", 10_000)))
    body: Json = {
        "dimensionHeaders": [{"name": name} for name in _names(call, "dimensions")],
        "metricHeaders": [{"name": name, "type": "TYPE_INTEGER"} for name in _names(call, "metrics")],
        "rowCount": len(rows),
        "metadata": {"currencyCode": call.account.tenant.currency, "timeZone": call.account.tenant.timezone},
        "kind": "analyticsData#runReport",
    }
    return {**body, "rows": data} if data else body


def _property(call: Call) -> Rows:
    tenant = call.account.tenant
    row = {"name": f"properties/{call.account.id}", "currencyCode": tenant.currency, "timeZone": tenant.timezone}
    return Rows([row], dict)


ENDPOINTS = (
    Endpoint(
        "/{version}/properties/{property_id}:runReport",
        from_path("property_id"),
        _report,
        _page,
        method="POST",
        report=True,
    ),
    Endpoint(
        "/{version}/properties/{property_id}", from_path("property_id"), _property, lambda _, rows: rows.page(0, 1)[0]
    ),
)
