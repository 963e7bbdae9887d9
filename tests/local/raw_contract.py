"""The raw tables that the dbt project reads, as agreed between it and the connectors: keys, columns, types.

Every table also has `tenant_id`, which is the first part of its key, and Airbyte's four metadata columns.
"""

from __future__ import annotations

from dataclasses import dataclass

_TABLES = """
raw_meta.ad_insights [account_id ad_id date_start region]
    account_id:text account_currency:text campaign_id:text campaign_name:text adset_id:text adset_name:text
    ad_id:text ad_name:text date_start:date date_stop:date region:text impressions:int reach:int clicks:int
    inline_link_clicks:int spend:num actions:json action_values:json
raw_meta.campaigns [id]
    id:text account_id:text name:text status:text objective:text daily_budget:num lifetime_budget:num
    start_time:time start_date:date stop_time:time stop_date:date updated_time:time
raw_meta.adsets [id]
    id:text account_id:text campaign_id:text name:text status:text daily_budget:num updated_time:time
raw_meta.ads [id]
    id:text account_id:text campaign_id:text adset_id:text name:text status:text creative:json updated_time:time
raw_google_ads.campaign_daily [customer_id campaign_id date]
    customer_id:text customer_currency_code:text campaign_id:text campaign_name:text campaign_status:text
    campaign_budget_micros:int date:date impressions:int clicks:int cost_micros:int conversions:num
    conversions_value:num
raw_google_ads.geographic_view [customer_id campaign_id date geo_target_region]
    customer_id:text campaign_id:text date:date country_code:text geo_target_region:text impressions:int
    clicks:int cost_micros:int conversions:num conversions_value:num
raw_linkedin_ads.ad_analytics [account_id creative_id date]
    account_id:text account_currency:text campaign_group_id:text campaign_id:text creative_id:text date:date
    impressions:int clicks:int cost_in_local_currency:num external_website_conversions:int
    conversion_value_in_local_currency:num
raw_linkedin_ads.campaigns [id]
    id:text account_id:text campaign_group_id:text name:text status:text daily_budget_amount:num currency:text
    last_modified:time
raw_linkedin_ads.creatives [id]
    id:text account_id:text campaign_id:text name:text status:text last_modified:time
raw_tiktok_ads.ads_report_daily [advertiser_id ad_id stat_time_day]
    advertiser_id:text currency:text campaign_id:text adgroup_id:text ad_id:text stat_time_day:date
    impressions:int clicks:int spend:num conversion:int complete_payment_value:num
raw_tiktok_ads.campaigns [campaign_id]
    campaign_id:text advertiser_id:text campaign_name:text operation_status:text budget:num budget_mode:text
    modify_time:time
raw_tiktok_ads.ad_groups [adgroup_id]
    adgroup_id:text advertiser_id:text campaign_id:text adgroup_name:text operation_status:text budget:num
    modify_time:time
raw_tiktok_ads.ads [ad_id]
    ad_id:text advertiser_id:text campaign_id:text adgroup_id:text ad_name:text operation_status:text
    modify_time:time
raw_ga4.daily_traffic [property_id date session_source session_medium session_campaign_name]
    property_id:text currency_code:text date:date session_source:text session_medium:text
    session_campaign_name:text sessions:int total_users:int new_users:int engaged_sessions:int key_events:num
    purchase_revenue:num
raw_search_console.search_analytics [site_url date query country device]
    site_url:text date:date query:text country:text device:text clicks:int impressions:int ctr:num position:num
"""
_TYPES = {
    "text": "character varying",
    "int": "bigint",
    "num": "numeric",
    "date": "date",
    "time": "timestamp with time zone",
    "json": "jsonb",
}
META_COLUMNS = ("_airbyte_raw_id", "_airbyte_extracted_at", "_airbyte_meta", "_airbyte_generation_id")


@dataclass(frozen=True, slots=True)
class RawTable:
    """One raw table; `columns` are its own, by name, with the type that Postgres reports."""

    key: tuple[str, ...]
    columns: dict[str, str]


def _parse() -> dict[str, RawTable]:
    tables: dict[str, RawTable] = {}
    name = ""
    for line in _TABLES.strip().splitlines():
        if not line.startswith(" "):
            name, _, key = line.rstrip("]").partition(" [")
            tables[name] = RawTable(("tenant_id", *key.split()), {"tenant_id": _TYPES["text"]})
            continue
        pairs = (column.split(":") for column in line.split())
        tables[name].columns.update({column: _TYPES[kind] for column, kind in pairs})
    return tables


RAW_TABLES = _parse()
