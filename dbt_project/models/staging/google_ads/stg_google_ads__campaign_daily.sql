{{ config(enabled=provider_enabled('google_ads')) }}

with current_rows as (
    {{ current_report_rows(
        source('raw_google_ads', 'campaign_daily'),
        slice=[google_customer_id(), 'date'],
        key=['campaign_id']
    ) }}
)

select
    tenant_uuid as tenant_id,
    'google_ads' as source_platform,
    {{ google_customer_id() }} as ad_account_id,
    {{ or_none('campaign_id') }} as campaign_id,
    cast(campaign_name as text) as campaign_name,
    cast(campaign_status as text) as platform_status,
    '(none)' as adset_id,
    cast(null as text) as adset_name,
    '(none)' as ad_id,
    cast(null as text) as ad_name,
    date as date_day,
    {{ currency_code('customer_currency_code') }} as currency,
    {{ from_micros('campaign_budget_micros') }} as daily_budget,
    {{ count_or_zero('impressions') }} as impressions,
    {{ count_or_zero('clicks') }} as clicks,
    {{ amount_or_zero(from_micros('cost_micros')) }} as spend,
    {{ amount_or_zero('conversions') }} as conversions,
    {{ amount_or_zero('conversions_value') }} as conversion_value,
    _airbyte_extracted_at as extracted_at
from current_rows
