with current_versions as (
    select *
    from {{ ref('snap_campaigns') }}
    where dbt_valid_to is null
),

-- Reports arrive hourly, campaign lists daily: a campaign may have spent before its own record is here.
reported as (
    select
        tenant_id,
        source_platform,
        ad_account_id,
        campaign_id,
        (array_agg(campaign_name order by date_day desc) filter (where campaign_name is not null))[1] as campaign_name,
        min(date_day) as first_day,
        max(date_day) as last_day
    from {{ ref('fct_ad_performance') }}
    group by tenant_id, source_platform, ad_account_id, campaign_id
)

select
    tenant_id,
    source_platform,
    ad_account_id,
    campaign_id,
    coalesce(current_versions.campaign_name, reported.campaign_name, '(not yet known)') as campaign_name,
    coalesce(current_versions.status, 'unknown') as status,
    current_versions.platform_status,
    current_versions.objective,
    coalesce(current_versions.currency, ad_accounts.currency, 'XXX') as currency,
    current_versions.daily_budget,
    current_versions.lifetime_budget,
    current_versions.start_date,
    current_versions.stop_date,
    reported.first_day,
    reported.last_day,
    current_versions.dbt_valid_from as attributes_since,
    current_versions.campaign_id is null as is_inferred
from current_versions
full outer join reported using (tenant_id, source_platform, ad_account_id, campaign_id)
left join {{ ref('dim_ad_account') }} as ad_accounts using (tenant_id, source_platform, ad_account_id)
