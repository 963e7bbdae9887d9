{{ config(enabled=provider_enabled('tiktok_ads')) }}

with current_rows as (
    {{ current_records(source('raw_tiktok_ads', 'campaigns'), key=['campaign_id']) }}
)

select
    tenant_uuid as tenant_id,
    'tiktok_ads' as source_platform,
    cast(advertiser_id as text) as ad_account_id,
    cast(campaign_id as text) as campaign_id,
    cast(campaign_name as text) as campaign_name,
    cast(operation_status as text) as platform_status,
    {{ delivery_status('operation_status') }} as status,
    cast(null as text) as objective,
    -- Budgets are in the advertiser's currency, which only its report names.
    cast(null as text) as currency,
    {{ amount("nullif(case when budget_mode = 'BUDGET_MODE_DAY' then budget end, 0)") }} as daily_budget,
    {{ amount("nullif(case when budget_mode = 'BUDGET_MODE_TOTAL' then budget end, 0)") }} as lifetime_budget,
    cast(null as date) as start_date,
    cast(null as date) as stop_date,
    modify_time as platform_updated_at,
    _airbyte_extracted_at as extracted_at
from current_rows
