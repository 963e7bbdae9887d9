"""A small deterministic content of the raw tables: the baseline that the dbt tests build on.

Three tenants, all six providers, ten days or fewer. It is awkward on purpose: late and re-read days, spellings, missing
values, an account that two tenants share; each awkward row says why. Not here: the tables (`raw_tables`).
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, date, datetime, timedelta

from tests.dbt_project.raw_tables import RawWarehouse, Row, Sync, provider_of

ACME = "11111111-1111-4111-8111-111111111111"
GLOBEX = "22222222-2222-4222-8222-222222222222"
INITECH = "33333333-3333-4333-8333-333333333333"
PROVIDERS = ("meta", "google_ads", "linkedin_ads", "tiktok_ads", "ga4", "search_console")

# Acme's data reaches twelve days further than Globex's: what is old for one is new for the other.
ACME_DAYS = tuple(date(2025, 3, 11) + timedelta(days=offset) for offset in range(10))
GLOBEX_DAYS = tuple(date(2025, 2, 27) + timedelta(days=offset) for offset in range(10))
INITECH_DAYS = tuple(date(2025, 3, 14) + timedelta(days=offset) for offset in range(5))

FIRST_SYNC = Sync(101, datetime(2025, 3, 21, 6, tzinfo=UTC))
# A later job whose id is smaller, as after the Airbyte server was set up anew: it is the later one all the same.
SECOND_SYNC = Sync(7, datetime(2025, 3, 21, 12, tzinfo=UTC))

# One Saint Andrew under several spellings, Saint Ann with an accent, a region abroad, and none at all.
META_REGIONS = ("Kingston Parish", "St. Andrew", "SAINT ANDREW", "Saint Andrew Parish", "Sáint Ann", "Florida", None)


def meta_insight(
    tenant: str, account: str, day: date, *, ad: str = "m-a1", region: str | None, **changes: object
) -> dict[str, object]:
    """One row of raw_meta.ad_insights; two ads in one campaign's only ad set."""
    row: dict[str, object] = {
        "tenant_id": tenant,
        "account_id": account,
        "account_currency": "JMD" if tenant == ACME else "GBP",
        "campaign_id": "m-c1",
        "campaign_name": "Summer",
        "adset_id": "m-s1",
        "adset_name": "Everyone",
        "ad_id": ad,
        "ad_name": f"Ad {ad}",
        "date_start": day,
        "date_stop": day,
        "region": region,
        "impressions": 1000 + day.day,
        "reach": 800,
        "clicks": 20,
        "inline_link_clicks": 12,
        "spend": 100 + day.day,
        # The same two purchases under two names, and a lead.
        "actions": [
            {"action_type": "purchase", "value": "2"},
            {"action_type": "offsite_conversion.fb_pixel_purchase", "value": "2"},
            {"action_type": "lead", "value": "1"},
            {"action_type": "link_click", "value": "12"},
        ],
        "action_values": [{"action_type": "purchase", "value": "450.50"}],
    }
    return {**row, **changes}


def _ad_of_a_new_campaign() -> dict[str, object]:
    """Of a campaign that the daily campaign list does not have yet; without impressions, clicks or actions."""
    fresh = {"campaign_id": "m-c9", "campaign_name": "Brand new", "adset_id": "m-s9", "adset_name": None}
    nothing = {"impressions": 0, "clicks": None, "spend": 0, "actions": None, "action_values": None}
    return meta_insight(ACME, "act_1001", ACME_DAYS[-1], ad="m-a9", region="Portland", **fresh, **nothing)


def _meta() -> dict[str, list[Row]]:
    insights: list[Row] = [
        meta_insight(ACME, "act_1001", day, ad=ad, region=region)
        for day in ACME_DAYS
        for ad in ("m-a1", "m-a2")
        for region in META_REGIONS
    ]
    # Globex runs the very same account, campaign and ads: only the tenant tells the rows apart.
    insights += [meta_insight(GLOBEX, "1001", day, region="Greater London") for day in GLOBEX_DAYS]
    insights.append(_ad_of_a_new_campaign())
    campaigns: list[Row] = []
    adsets: list[Row] = []
    ads: list[Row] = []
    for tenant in (ACME, GLOBEX):
        base: dict[str, object] = {"tenant_id": tenant, "account_id": "1001", "status": "ACTIVE"}
        campaigns.append({**base, "id": "m-c1", "name": "Summer", "objective": "OUTCOME_SALES", "daily_budget": 500000})
        # A budget of zero here means that the ad sets hold it.
        campaigns.append({**base, "id": "m-c2", "name": "Winter", "daily_budget": 0, "status": "PAUSED"})
        adsets.append({**base, "id": "m-s1", "campaign_id": "m-c1", "name": "Everyone"})
        adsets.append({**base, "id": "m-s2", "campaign_id": "m-c2", "name": "Islanders", "daily_budget": 120000})
        creative = {
            "id": "cr-1",
            "title": "Sun",
            "body": "Come",
            "object_type": "VIDEO",
            "thumbnail_url": "https://t/1",
        }
        for ad in ("m-a1", "m-a2"):
            place = {"campaign_id": "m-c1", "adset_id": "m-s1", "creative": creative}
            ads.append({**base, "id": ad, "name": f"Ad {ad}", **place})
    return {
        "raw_meta.ad_insights": insights,
        "raw_meta.campaigns": campaigns,
        "raw_meta.adsets": adsets,
        "raw_meta.ads": ads,
    }


def _google() -> dict[str, list[Row]]:
    campaign_daily: list[Row] = []
    geographic: list[Row] = []
    for tenant, customer, currency, days in (
        (ACME, "123-456-7890", "JMD", ACME_DAYS),
        (INITECH, "5550001111", "USD", INITECH_DAYS),
    ):
        for day in days:
            base = {"tenant_id": tenant, "customer_id": customer, "campaign_id": "g-c1", "date": day}
            campaign = {"campaign_name": "Search", "campaign_status": "ENABLED", "campaign_budget_micros": 40_000_000}
            numbers = {"impressions": 400, "clicks": 10, "cost_micros": 30_250_000 + day.day, "conversions": 1.5}
            campaign_daily.append(
                {**base, **campaign, **numbers, "customer_currency_code": currency, "conversions_value": 90.25}
            )
            # Barbados has a Saint Andrew of its own.
            for country, region in (("JM", "St. Andrew Parish"), ("JM", "Kingston"), ("BB", "Saint Andrew")):
                share = {"impressions": 100, "clicks": 3, "cost_micros": 10_000_000, "conversions": 0.5}
                place = {"country_code": country, "geo_target_region": region}
                geographic.append({**base, **place, **share})
    return {"raw_google_ads.campaign_daily": campaign_daily, "raw_google_ads.geographic_view": geographic}


def _linkedin() -> dict[str, list[Row]]:
    analytics: list[Row] = [
        {
            "tenant_id": GLOBEX,
            "account_id": "urn:li:sponsoredAccount:77",
            "account_currency": "GBP",
            "campaign_group_id": "l-g1",
            "campaign_id": "urn:li:sponsoredCampaign:771",
            "creative_id": "urn:li:sponsoredCreative:7711",
            "date": day,
            "impressions": 50,
            "clicks": 0,
            "cost_in_local_currency": 12.5,
            "external_website_conversions": 0,
        }
        for day in GLOBEX_DAYS
    ]
    base: dict[str, object] = {"tenant_id": GLOBEX, "account_id": "77", "status": "ACTIVE"}
    campaign = {**base, "id": "771", "campaign_group_id": "l-g1", "name": "B2B", "daily_budget_amount": 15}
    return {
        "raw_linkedin_ads.ad_analytics": analytics,
        "raw_linkedin_ads.campaigns": [{**campaign, "currency": "gbp"}],
        "raw_linkedin_ads.creatives": [{**base, "id": "7711", "campaign_id": "771", "name": "White paper"}],
    }


def _tiktok() -> dict[str, list[Row]]:
    account: dict[str, object] = {"tenant_id": INITECH, "advertiser_id": "900"}
    report: list[Row] = [
        {
            **account,
            "currency": "USD",
            "campaign_id": "t-c1",
            "adgroup_id": "t-g1",
            "ad_id": "t-a1",
            "stat_time_day": day,
            "impressions": 2000,
            "clicks": 40,
            "spend": 25,
            "conversion": 2,
            "complete_payment_value": 60,
        }
        for day in INITECH_DAYS
    ]
    state = {"operation_status": "ENABLE"}
    campaign = {**account, **state, "campaign_id": "t-c1", "campaign_name": "Dance", "budget": 600}
    return {
        "raw_tiktok_ads.ads_report_daily": report,
        "raw_tiktok_ads.campaigns": [{**campaign, "budget_mode": "BUDGET_MODE_TOTAL"}],
        "raw_tiktok_ads.ad_groups": [
            {**account, **state, "adgroup_id": "t-g1", "campaign_id": "t-c1", "adgroup_name": "Young", "budget": 20}
        ],
        "raw_tiktok_ads.ads": [
            {**account, **state, "ad_id": "t-a1", "campaign_id": "t-c1", "adgroup_id": "t-g1", "ad_name": "Clip"}
        ],
    }


def _web() -> dict[str, list[Row]]:
    traffic: list[Row] = []
    for day in ACME_DAYS:
        base = {"tenant_id": ACME, "property_id": "p-1", "currency_code": "JMD", "date": day, "sessions": 30}
        people = {
            "total_users": 25,
            "new_users": 10,
            "engaged_sessions": 18,
            "key_events": 2.0,
            "purchase_revenue": 99.9,
        }
        traffic.append({**base, **people, "session_source": "google", "session_medium": "cpc"})
        # A missing campaign and Google's own word for one are the same campaign.
        named = {"session_source": "google", "session_medium": "cpc", "session_campaign_name": "(not set)"}
        traffic.append({**base, **people, **named, "sessions": 0, "engaged_sessions": 0})
    search: list[Row] = []
    for day in GLOBEX_DAYS:
        site = {"tenant_id": GLOBEX, "site_url": "sc-domain:globex.example", "date": day, "country": "GBR"}
        search.append({**site, "query": "globex", "device": "MOBILE", "clicks": 3, "impressions": 60, "position": 1.5})
        search.append({**site, "query": None, "device": "DESKTOP", "clicks": 1, "impressions": 0, "position": 9})
    return {"raw_ga4.daily_traffic": traffic, "raw_search_console.search_analytics": search}


def load_baseline(warehouse: RawWarehouse, providers: Collection[str] = PROVIDERS) -> None:
    """Create the raw tables and fill them: a first sync, and a second one that read Acme's newest Meta days again."""
    warehouse.create_tables(providers)
    content = {**_meta(), **_google(), **_linkedin(), **_tiktok(), **_web()}
    for table_name, rows in content.items():
        if provider_of(table_name) in providers:
            warehouse.append(table_name, rows, FIRST_SYNC)
    if "meta" in providers:
        warehouse.append("raw_meta.ad_insights", reread_meta_days(), SECOND_SYNC)


def reread_meta_days() -> list[Row]:
    """Acme's last three Meta days as the second sync reads them, before the destination has deduplicated.

    Amounts have grown, and the rows for Florida are no longer reported: those of the first sync must not count.
    """
    kept = [region for region in META_REGIONS if region != "Florida"]
    rows: list[Row] = [
        meta_insight(ACME, "act_1001", day, ad=ad, region=region, spend=200 + day.day)
        for day in ACME_DAYS[-3:]
        for ad in ("m-a1", "m-a2")
        for region in kept
    ]
    return [*rows, _ad_of_a_new_campaign()]
