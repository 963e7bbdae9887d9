{{ config(enabled=provider_enabled('tiktok_ads')) }}

with current_rows as (
    {{ current_report_rows(
        source('raw_tiktok_ads', 'ads_report_daily'),
        slice=['advertiser_id', 'stat_time_day'],
        key=['ad_id']
    ) }}
)

select
    tenant_uuid as tenant_id,
    'tiktok_ads' as source_platform,
    cast(advertiser_id as text) as ad_account_id,
    {{ or_none('campaign_id') }} as campaign_id,
    cast(null as text) as campaign_name,
    {{ or_none('adgroup_id') }} as adset_id,
    cast(null as text) as adset_name,
    {{ or_none('ad_id') }} as ad_id,
    cast(null as text) as ad_name,
    stat_time_day as date_day,
    {{ currency_code('currency') }} as currency,
    {{ count_or_zero('impressions') }} as impressions,
    {{ count_or_zero('clicks') }} as clicks,
    {{ amount_or_zero('spend') }} as spend,
    {{ amount_or_zero('conversion') }} as conversions,
    {{ amount_or_zero('complete_payment_value') }} as conversion_value,
    _airbyte_extracted_at as extracted_at
from current_rows
