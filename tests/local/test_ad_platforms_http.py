"""The ad platforms over HTTP: each one's own shapes, pages and refusals, and the fault knobs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from adinsights_orchestration.local.ad_platforms.accounts import Account, WorldSize
from adinsights_orchestration.local.ad_platforms.app import create_app
from adinsights_orchestration.local.ad_platforms.metrics import Metrics
from adinsights_orchestration.local.ad_platforms.world import World
from adinsights_orchestration.local.knobs import KnobError, Knobs
from adinsights_orchestration.local.serving import running
from adinsights_orchestration.tenants.model import Provider

NOW = datetime(2026, 6, 17, 17, 0, tzinfo=UTC)
SINCE, UNTIL = date(2026, 6, 10), date(2026, 6, 14)
GAQL = "SELECT metrics.clicks FROM {resource} WHERE segments.date BETWEEN '{since}' AND '{until}'"


@dataclass
class Platforms:
    """A client of the running platforms that signs in as one tenant."""

    world: World
    knobs: Knobs
    http: httpx.Client

    def account(self, provider: Provider, slug: str | None = None) -> Account:
        tenant = next(t for t in self.world.tenants if provider in t.providers and slug in (None, t.slug))
        return self.world.accounts(tenant, provider)[0]

    def headers(self, account: Account) -> dict[str, str]:
        token = self.world.access_token(account.tenant, account.provider)
        name = "Access-Token" if account.provider is Provider.TIKTOK_ADS else "Authorization"
        return {name: token if account.provider is Provider.TIKTOK_ADS else f"Bearer {token}"}

    def get(self, account: Account, path: str, **query: Any) -> httpx.Response:
        url = f"/{account.provider.value}{path}"
        return self.http.get(url, params=query, headers=self.headers(account))

    def post(self, account: Account, path: str, body: object) -> httpx.Response:
        return self.http.post(f"/{account.provider.value}{path}", json=body, headers=self.headers(account))


@pytest.fixture(scope="module")
def server() -> Iterator[Platforms]:
    world, knobs = World(size=WorldSize(campaigns=3, groups=2, ads=2), clock=lambda: NOW), Knobs()
    with running(create_app(world, knobs)) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield Platforms(world, knobs, client)


@pytest.fixture
def platforms(server: Platforms) -> Iterator[Platforms]:
    yield server
    server.knobs.reset()


def insights(platforms: Platforms, account: Account, **query: Any) -> httpx.Response:
    span = json.dumps({"since": SINCE.isoformat(), "until": UNTIL.isoformat()})
    fields = "account_id,campaign_id,ad_id,impressions,clicks,spend,actions,action_values"
    defaults = {"level": "ad", "breakdowns": "region", "time_range": span, "fields": fields, "limit": 50}
    return platforms.get(account, f"/v23.0/act_{account.id}/insights", **{**defaults, **query})


def reports(platforms: Platforms) -> dict[Provider, httpx.Response]:
    """One request for every platform's report, which should hold rows."""
    meta, google, linkedin, tiktok, ga4, site = (platforms.account(provider) for provider in Provider)
    span = {"start_date": SINCE.isoformat(), "end_date": UNTIL.isoformat()}
    names = ["date", "sessionSource", "sessionMedium", "sessionCampaignName"]
    return {
        Provider.META: insights(platforms, meta),
        Provider.GOOGLE_ADS: platforms.post(
            google,
            f"/v21/customers/{google.id}/googleAds:search",
            {"query": GAQL.format(resource="campaign", since=SINCE, until=UNTIL)},
        ),
        Provider.LINKEDIN_ADS: platforms.get(
            linkedin,
            "/rest/adAnalytics",
            q="statistics",
            pivots="List(CREATIVE,CAMPAIGN,CAMPAIGN_GROUP)",
            timeGranularity="DAILY",
            dateRange="(start:(year:2026,month:6,day:10),end:(year:2026,month:6,day:14))",
            accounts=f"List(urn:li:sponsoredAccount:{linkedin.id})",
        ),
        Provider.TIKTOK_ADS: platforms.get(
            tiktok,
            "/open_api/v1.3/report/integrated/get/",
            advertiser_id=tiktok.id,
            dimensions='["ad_id","stat_time_day"]',
            metrics='["spend","clicks"]',
            **span,
        ),
        Provider.GA4: platforms.post(
            ga4,
            f"/v1beta/properties/{ga4.id}:runReport",
            {
                "dateRanges": [{"startDate": SINCE.isoformat(), "endDate": UNTIL.isoformat()}],
                "dimensions": [{"name": name} for name in names],
                "metrics": [{"name": "sessions"}, {"name": "keyEvents"}],
            },
        ),
        Provider.SEARCH_CONSOLE: platforms.post(
            site,
            f"/webmasters/v3/sites/{quote(site.id, safe='')}/searchAnalytics/query",
            {
                "startDate": SINCE.isoformat(),
                "endDate": UNTIL.isoformat(),
                "dimensions": ["date", "query", "country", "device"],
            },
        ),
    }


def rows_of(provider: Provider, body: Any) -> list[Any]:
    """The rows of a report, wherever the platform puts them."""
    if provider is Provider.TIKTOK_ADS:
        rows = body["data"]["list"]
    else:
        rows = next((body[key] for key in ("data", "results", "elements", "rows") if key in body), [])
    assert isinstance(rows, list)
    return rows


def test_every_platform_answers_its_report(platforms: Platforms) -> None:
    for provider, response in reports(platforms).items():
        assert response.status_code == 200, provider
        assert len(rows_of(provider, response.json())) > 3, provider


def test_meta_pages_follow_cursors_to_the_end_and_no_row_comes_twice(platforms: Platforms) -> None:
    account = platforms.account(Provider.META)
    rows, after = [], None
    while True:
        page = insights(platforms, account, **({"after": after} if after else {})).json()
        rows += page["data"]
        if "next" not in page["paging"]:
            break
        after = page["paging"]["cursors"]["after"]
        assert f"after={quote(after)}" in page["paging"]["next"]
    keys = {(row["ad_id"], row["date_start"], row["region"]) for row in rows}
    assert len(keys) == len(rows) == 12 * 5 * 5  # ads, days, regions
    assert "access_token" not in page["paging"]["cursors"]["after"]


def test_meta_figures_are_strings_that_sum_to_the_world(platforms: Platforms) -> None:
    account = platforms.account(Provider.META)
    rows = insights(platforms, account, limit=500).json()["data"]
    days = [SINCE + timedelta(days=n) for n in range(5)]
    total = sum((platforms.world.ad_day(ad, d, NOW) for ad in platforms.world.ads(account) for d in days), Metrics())
    assert sum(int(row["impressions"]) for row in rows) == total.impressions
    assert round(sum(float(row["spend"]) for row in rows), 2) == total.spend_micros / 1e6


def test_meta_leaves_out_actions_that_nobody_took_and_counts_a_purchase_under_each_of_its_names(
    platforms: Platforms,
) -> None:
    rows = insights(platforms, platforms.account(Provider.META), limit=500).json()["data"]
    assert any("actions" not in row for row in rows)
    bought = next(row for row in rows if "action_values" in row)
    counts = {action["action_type"]: action["value"] for action in bought["actions"]}
    assert counts["purchase"] == counts["omni_purchase"] == counts["offsite_conversion.fb_pixel_purchase"]


def test_meta_gives_only_the_fields_that_were_asked_for(platforms: Platforms) -> None:
    row = insights(platforms, platforms.account(Provider.META), fields="ad_id,clicks").json()["data"][0]
    assert set(row) == {"ad_id", "clicks", "date_start", "date_stop", "region"}


def test_meta_lists_campaigns_with_budgets_in_minor_units(platforms: Platforms) -> None:
    account = platforms.account(Provider.META)
    listed = platforms.get(account, f"/v23.0/act_{account.id}/campaigns", limit=2).json()
    campaign = platforms.world.campaigns(account)[0]
    assert len(listed["data"]) == 2
    assert "next" in listed["paging"]
    assert listed["data"][0]["daily_budget"] == str(platforms.world.status(campaign, NOW).daily_budget)
    assert datetime.strptime(listed["data"][0]["updated_time"], "%Y-%m-%dT%H:%M:%S%z") <= NOW


def test_meta_writes_times_as_the_accounts_own_clock_shows_them(platforms: Platforms) -> None:
    account = platforms.account(Provider.META)
    listed = platforms.get(account, f"/v23.0/act_{account.id}/campaigns").json()["data"]
    campaigns = platforms.world.campaigns(account)
    assert account.tenant.timezone == "America/Jamaica"
    assert {one["stop_time"] for one in listed if "stop_time" in one} == {"2030-12-31T23:59:59-0500"}
    assert [datetime.fromisoformat(one["start_time"]) for one in listed] == [one.starts for one in campaigns]
    assert all(one[name].endswith("-0500") for one in listed for name in ("start_time", "updated_time"))


def test_google_whole_numbers_are_strings_and_regions_sum_to_campaigns(platforms: Platforms) -> None:
    account = platforms.account(Provider.GOOGLE_ADS)
    path = f"/v21/customers/{account.id}/googleAds:search"
    query = {r: GAQL.format(resource=r, since=SINCE, until=UNTIL) for r in ("campaign", "geographic_view")}
    totals = {}
    for resource, text in query.items():
        rows = platforms.post(account, path, {"query": text}).json()["results"]
        assert isinstance(rows[0]["metrics"]["costMicros"], str)
        totals[resource] = sum(int(row["metrics"]["costMicros"]) for row in rows)
    assert totals["campaign"] == totals["geographic_view"] > 0


def test_google_pages_are_of_a_fixed_size_and_follow_a_token(platforms: Platforms) -> None:
    account = platforms.account(Provider.GOOGLE_ADS)
    path = f"/v21/customers/{account.id}/googleAds:search"
    query = GAQL.format(resource="geographic_view", since="2026-01-01", until="2026-06-17")
    first = platforms.post(account, path, {"query": query}).json()
    second = platforms.post(account, path, {"query": query, "pageToken": first["nextPageToken"]}).json()
    assert len(first["results"]) == 500
    assert first["results"][-1] != second["results"][0]


def test_linkedin_numbers_its_report_pages_and_tokens_its_lists(platforms: Platforms) -> None:
    account = platforms.account(Provider.LINKEDIN_ADS)
    pages = [
        platforms.get(
            account,
            f"/rest/adAccounts/{account.id}/adCampaigns",
            q="search",
            pageSize=4,
            **({"pageToken": t} if t else {}),
        ).json()
        for t in (None, "bzo0")
    ]
    assert pages[0]["metadata"]["nextPageToken"] == "bzo0"
    assert "nextPageToken" not in pages[1]["metadata"]
    assert len({row["id"] for page in pages for row in page["elements"]}) == 6


def test_tiktok_wraps_everything_and_counts_its_pages(platforms: Platforms) -> None:
    account = platforms.account(Provider.TIKTOK_ADS)
    body = platforms.get(account, "/open_api/v1.3/ad/get/", advertiser_id=account.id, page=3, page_size=5).json()
    assert body["code"] == 0
    assert body["data"]["page_info"] == {"page": 3, "page_size": 5, "total_number": 12, "total_page": 3}
    assert len(body["data"]["list"]) == 2


def test_ga4_rows_are_positional_and_say_how_many_there_are(platforms: Platforms) -> None:
    body = reports(platforms)[Provider.GA4].json()
    assert body["rowCount"] == len(body["rows"])
    assert [header["name"] for header in body["metricHeaders"]] == ["sessions", "keyEvents"]
    assert all(len(row["dimensionValues"]) == 4 for row in body["rows"])
    assert body["rows"][0]["dimensionValues"][0]["value"] == "20260610"


def test_search_console_publishes_two_days_late(platforms: Platforms) -> None:
    account = platforms.account(Provider.SEARCH_CONSOLE)
    body = platforms.post(
        account,
        f"/webmasters/v3/sites/{quote(account.id, safe='')}/searchAnalytics/query",
        {
            "startDate": "2026-06-10",
            "endDate": "2026-06-17",
            "dimensions": ["date", "query", "country", "device"],
            "rowLimit": 10_000,
        },
    ).json()
    assert max(row["keys"][0] for row in body["rows"]) == "2026-06-15"


def test_no_token_a_foreign_token_and_an_unknown_account_are_refused(platforms: Platforms) -> None:
    mine, other = (platforms.account(Provider.META, slug) for slug in ("acme-jamaica", "globex-london"))
    path = f"/meta/v23.0/act_{mine.id}/campaigns"
    assert platforms.http.get(path).json()["error"]["code"] == 190
    assert platforms.http.get(path, headers=platforms.headers(other)).json()["error"]["code"] == 200
    assert platforms.get(mine, "/v23.0/act_1/campaigns").status_code == 403


def test_a_request_that_makes_no_sense_is_a_400_that_says_why(platforms: Platforms) -> None:
    meta, google = platforms.account(Provider.META), platforms.account(Provider.GOOGLE_ADS)
    assert "level=ad" in insights(platforms, meta, level="campaign").json()["error"]["message"]
    assert insights(platforms, meta, after="???").status_code == 400
    refused = platforms.post(google, f"/v21/customers/{google.id}/googleAds:search", {"query": "DROP TABLE campaign"})
    assert (refused.status_code, refused.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")


RATE_LIMITS: dict[Provider, Callable[[httpx.Response], bool]] = {
    Provider.META: lambda r: (r.status_code, r.json()["error"]["code"]) == (429, 17),
    Provider.GOOGLE_ADS: lambda r: (r.status_code, r.json()["error"]["status"]) == (429, "RESOURCE_EXHAUSTED"),
    Provider.LINKEDIN_ADS: lambda r: r.status_code == 429,
    Provider.TIKTOK_ADS: lambda r: (r.status_code, r.json()["code"]) == (200, 40100),
    Provider.GA4: lambda r: r.status_code == 429,
    Provider.SEARCH_CONSOLE: lambda r: r.status_code == 429,
}


def test_a_countdown_knob_spoils_so_many_answers_and_no_more(platforms: Platforms) -> None:
    for provider in Provider:
        platforms.knobs.set(f"ads.{provider.value}", "rate_limited_next", 1)
    for provider, response in reports(platforms).items():
        assert RATE_LIMITS[provider](response), provider
        assert platforms.knobs.get(f"ads.{provider.value}", "rate_limited_next") == 0
    assert all(r.status_code == 200 for r in reports(platforms).values())


def test_one_platforms_knobs_leave_the_others_alone(platforms: Platforms) -> None:
    platforms.knobs.set("ads.meta", "auth_revoked", True)
    answers = reports(platforms)
    assert answers[Provider.META].json()["error"]["code"] == 190
    assert all(answers[p].status_code == 200 for p in Provider if p is not Provider.META)


def test_server_errors_broken_bodies_and_empty_reports_come_when_asked_for(platforms: Platforms) -> None:
    for provider in Provider:
        area = f"ads.{provider.value}"
        platforms.knobs.set(area, "server_error_next", 1)
        failed = reports(platforms)[provider]
        assert failed.status_code >= 500 or failed.json().get("code") == 50000, provider
        platforms.knobs.set(area, "malformed_json_next", 1)
        broken = reports(platforms)[provider]
        assert broken.status_code == 200
        with pytest.raises(json.JSONDecodeError):
            broken.json()
        platforms.knobs.set(area, "empty", True)
        assert rows_of(provider, reports(platforms)[provider].json()) == [], provider


def test_a_new_field_appears_in_reports_and_among_the_accounts_fields(platforms: Platforms) -> None:
    for provider in Provider:
        account = platforms.account(provider)
        assert platforms.get(account, "/customFields", account_id=account.id).json()["accountFields"]["fields"] == []
        platforms.knobs.set(f"ads.{provider.value}", "schema_extra_field", True)
        rows = rows_of(provider, reports(platforms)[provider].json())
        assert all(row["conversion_quality"] == 3 for row in rows)
        named = platforms.get(account, "/customFields", account_id=account.id).json()["accountFields"]["fields"]
        assert named == [{"name": "conversion_quality", "type": "integer"}]


def test_a_knob_that_no_platform_has_cannot_be_turned(platforms: Platforms) -> None:
    with pytest.raises(KnobError, match="no such knob"):
        platforms.knobs.set("ads.meta", "rate_limit_next", 1)
