{{ config(enabled=provider_enabled('ga4')) }}

with current_rows as (
    {{ current_report_rows(
        source('raw_ga4', 'daily_traffic'),
        slice=['property_id', 'date'],
        key=['session_source', 'session_medium', 'session_campaign_name']
    ) }}
)

-- Google reports sessions without a campaign under an empty name and under its own word for it: one row here.
select
    tenant_uuid as tenant_id,
    'ga4' as source_platform,
    cast(property_id as text) as property_id,
    date as date_day,
    {{ or_not_set('session_source') }} as session_source,
    {{ or_not_set('session_medium') }} as session_medium,
    {{ or_not_set('session_campaign_name') }} as session_campaign,
    {{ currency_code('max(currency_code)') }} as currency,
    {{ count_or_zero('sum(sessions)') }} as sessions,
    {{ count_or_zero('sum(total_users)') }} as total_users,
    {{ count_or_zero('sum(new_users)') }} as new_users,
    {{ count_or_zero('sum(engaged_sessions)') }} as engaged_sessions,
    {{ amount_or_zero('sum(key_events)') }} as conversions,
    {{ amount_or_zero('sum(purchase_revenue)') }} as revenue,
    max(_airbyte_extracted_at) as extracted_at
from current_rows
group by 1, 2, 3, 4, 5, 6, 7
