with current_versions as (
    select *
    from {{ ref('snap_adsets') }}
    where dbt_valid_to is null
),

-- As for campaigns: an ad set may have spent before its own record is here. Platforms without the level report
-- '(none)', one per campaign.
reported as (
    select
        tenant_id,
        source_platform,
        ad_account_id,
        campaign_id,
        adset_id,
        (array_agg(adset_name order by date_day desc) filter (where adset_name is not null))[1] as adset_name,
        min(date_day) as first_day,
        max(date_day) as last_day
    from {{ ref('fct_ad_performance') }}
    group by tenant_id, source_platform, ad_account_id, campaign_id, adset_id
)

select
    tenant_id,
    source_platform,
    ad_account_id,
    campaign_id,
    adset_id,
    case
        when adset_id = '(none)' then '(none)'
        else coalesce(current_versions.adset_name, reported.adset_name, '(not yet known)')
    end as adset_name,
    coalesce(current_versions.status, 'unknown') as status,
    current_versions.platform_status,
    current_versions.daily_budget,
    reported.first_day,
    reported.last_day,
    current_versions.dbt_valid_from as attributes_since,
    current_versions.adset_id is null as is_inferred
from current_versions
full outer join reported using (tenant_id, source_platform, ad_account_id, campaign_id, adset_id)
