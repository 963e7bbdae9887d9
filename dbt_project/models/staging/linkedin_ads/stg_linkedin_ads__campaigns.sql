{{ config(enabled=provider_enabled('linkedin_ads')) }}

with current_rows as (
    {{ current_records(source('raw_linkedin_ads', 'campaigns'), key=[linkedin_id('id')]) }}
)

select
    tenant_uuid as tenant_id,
    'linkedin_ads' as source_platform,
    {{ linkedin_id('account_id') }} as ad_account_id,
    {{ linkedin_id('campaign_group_id') }} as campaign_group_id,
    {{ linkedin_id('id') }} as campaign_id,
    cast(name as text) as campaign_name,
    cast(status as text) as platform_status,
    {{ delivery_status('status') }} as status,
    cast(null as text) as objective,
    cast(upper(currency) as text) as currency,
    {{ amount('nullif(daily_budget_amount, 0)') }} as daily_budget,
    {{ amount('null') }} as lifetime_budget,
    cast(null as date) as start_date,
    cast(null as date) as stop_date,
    last_modified as platform_updated_at,
    _airbyte_extracted_at as extracted_at
from current_rows
