{{ config(enabled=provider_enabled('google_ads')) }}

-- Google's campaigns arrive with their daily report; the newest day of each tells its present name, state and budget.
select distinct on (tenant_id, ad_account_id, campaign_id)
    tenant_id,
    source_platform,
    ad_account_id,
    campaign_id,
    campaign_name,
    platform_status,
    {{ delivery_status('platform_status') }} as status,
    cast(null as text) as objective,
    nullif(currency, 'XXX') as currency,
    daily_budget,
    {{ amount('null') }} as lifetime_budget,
    cast(null as date) as start_date,
    cast(null as date) as stop_date,
    extracted_at as platform_updated_at,
    extracted_at
from {{ ref('stg_google_ads__campaign_daily') }}
where campaign_id <> '(none)'
order by tenant_id asc, ad_account_id asc, campaign_id asc, date_day desc
