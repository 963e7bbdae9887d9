{{ config(enabled=provider_enabled('linkedin_ads')) }}

with current_rows as (
    {{ current_report_rows(
        source('raw_linkedin_ads', 'ad_analytics'),
        slice=[linkedin_id('account_id'), 'date'],
        key=[linkedin_id('creative_id')]
    ) }}
)

select
    tenant_uuid as tenant_id,
    'linkedin_ads' as source_platform,
    {{ linkedin_id('account_id') }} as ad_account_id,
    {{ linkedin_id('campaign_group_id') }} as campaign_group_id,
    {{ or_none(linkedin_id('campaign_id')) }} as campaign_id,
    cast(null as text) as campaign_name,
    '(none)' as adset_id,
    cast(null as text) as adset_name,
    {{ or_none(linkedin_id('creative_id')) }} as ad_id,
    cast(null as text) as ad_name,
    date as date_day,
    {{ currency_code('account_currency') }} as currency,
    {{ count_or_zero('impressions') }} as impressions,
    {{ count_or_zero('clicks') }} as clicks,
    {{ amount_or_zero('cost_in_local_currency') }} as spend,
    {{ amount_or_zero('external_website_conversions') }} as conversions,
    {{ amount_or_zero('conversion_value_in_local_currency') }} as conversion_value,
    _airbyte_extracted_at as extracted_at
from current_rows
