{{ config(enabled=provider_enabled('meta')) }}

with current_rows as (
    {{ current_report_rows(
        source('raw_meta', 'ad_insights'),
        slice=[meta_account_id(), 'date_start'],
        key=['ad_id', 'region']
    ) }}
)

select
    tenant_uuid as tenant_id,
    'meta' as source_platform,
    {{ meta_account_id() }} as ad_account_id,
    {{ or_none('campaign_id') }} as campaign_id,
    cast(campaign_name as text) as campaign_name,
    {{ or_none('adset_id') }} as adset_id,
    cast(adset_name as text) as adset_name,
    {{ or_none('ad_id') }} as ad_id,
    cast(ad_name as text) as ad_name,
    date_start as date_day,
    {{ or_none('region') }} as region_name,
    '(none)' as country_code,
    {{ currency_code('account_currency') }} as currency,
    {{ count_or_zero('impressions') }} as impressions,
    {{ count_or_zero('clicks') }} as clicks,
    {{ count_or_zero('inline_link_clicks') }} as link_clicks,
    {{ count_or_zero('reach') }} as reach,
    {{ amount_or_zero('spend') }} as spend,
    {{ amount_or_zero(meta_conversion_total('actions')) }} as conversions,
    {{ amount_or_zero(meta_conversion_total('action_values')) }} as conversion_value,
    _airbyte_extracted_at as extracted_at
from current_rows
