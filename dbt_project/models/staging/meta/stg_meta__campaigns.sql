{{ config(enabled=provider_enabled('meta')) }}

with current_rows as (
    {{ current_records(source('raw_meta', 'campaigns'), key=['id']) }}
),

-- Meta's campaigns do not name a currency; an account has one for life, and its reports do.
account_currencies as (
    {{ account_currencies(
        source('raw_meta', 'ad_insights'),
        raw_account='account_id',
        account=meta_account_id(),
        currency='account_currency'
    ) }}
)

select
    current_rows.tenant_uuid as tenant_id,
    'meta' as source_platform,
    {{ meta_account_id('current_rows.account_id') }} as ad_account_id,
    cast(current_rows.id as text) as campaign_id,
    cast(current_rows.name as text) as campaign_name,
    cast(current_rows.status as text) as platform_status,
    {{ delivery_status('current_rows.status') }} as status,
    cast(current_rows.objective as text) as objective,
    cast(account_currencies.currency as text) as currency,
    {{ from_meta_minor_units('nullif(current_rows.daily_budget, 0)', 'account_currencies.currency') }} as daily_budget,
    {{ from_meta_minor_units('nullif(current_rows.lifetime_budget, 0)', 'account_currencies.currency') }}
        as lifetime_budget,
    {{ meta_local_date('start') }} as start_date,
    {{ meta_local_date('stop') }} as stop_date,
    current_rows.updated_time as platform_updated_at,
    current_rows._airbyte_extracted_at as extracted_at
from current_rows
left join account_currencies
    on
        current_rows.tenant_uuid = account_currencies.tenant_id
        and {{ meta_account_id('current_rows.account_id') }} = account_currencies.ad_account_id
