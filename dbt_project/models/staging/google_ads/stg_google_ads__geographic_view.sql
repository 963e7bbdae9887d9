{{ config(enabled=provider_enabled('google_ads')) }}

with current_rows as (
    {{ current_report_rows(
        source('raw_google_ads', 'geographic_view'),
        slice=[google_customer_id(), 'date'],
        key=['campaign_id', 'country_code', 'geo_target_region']
    ) }}
),

-- The geographic report does not name a currency; the same customer's campaign report does.
account_currencies as (
    {{ account_currencies(
        source('raw_google_ads', 'campaign_daily'),
        raw_account='customer_id',
        account=google_customer_id(),
        currency='customer_currency_code'
    ) }}
)

select
    current_rows.tenant_uuid as tenant_id,
    'google_ads' as source_platform,
    {{ google_customer_id('current_rows.customer_id') }} as ad_account_id,
    {{ or_none('current_rows.campaign_id') }} as campaign_id,
    current_rows.date as date_day,
    {{ or_none('current_rows.geo_target_region') }} as region_name,
    {{ or_none('upper(current_rows.country_code)') }} as country_code,
    {{ currency_code('account_currencies.currency') }} as currency,
    {{ count_or_zero('current_rows.impressions') }} as impressions,
    {{ count_or_zero('current_rows.clicks') }} as clicks,
    {{ amount_or_zero(from_micros('current_rows.cost_micros')) }} as spend,
    {{ amount_or_zero('current_rows.conversions') }} as conversions,
    {{ amount_or_zero('current_rows.conversions_value') }} as conversion_value,
    current_rows._airbyte_extracted_at as extracted_at
from current_rows
left join account_currencies
    on
        current_rows.tenant_uuid = account_currencies.tenant_id
        and {{ google_customer_id('current_rows.customer_id') }} = account_currencies.ad_account_id
