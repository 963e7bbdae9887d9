with current_versions as (
    select *
    from {{ ref('snap_ads') }}
    where dbt_valid_to is null
),

-- As for campaigns: an ad may have spent before its own record is here. Platforms without the level report '(none)',
-- which is no ad and has no row here.
reported as (
    select
        tenant_id,
        source_platform,
        ad_account_id,
        ad_id,
        (array_agg(campaign_id order by date_day desc))[1] as campaign_id,
        (array_agg(adset_id order by date_day desc))[1] as adset_id,
        (array_agg(ad_name order by date_day desc) filter (where ad_name is not null))[1] as ad_name,
        min(date_day) as first_day,
        max(date_day) as last_day
    from {{ ref('fct_ad_performance') }}
    where ad_id <> '(none)'
    group by tenant_id, source_platform, ad_account_id, ad_id
)

select
    tenant_id,
    source_platform,
    ad_account_id,
    ad_id,
    coalesce(current_versions.campaign_id, reported.campaign_id) as campaign_id,
    coalesce(current_versions.adset_id, reported.adset_id) as adset_id,
    coalesce(current_versions.ad_name, reported.ad_name, '(not yet known)') as ad_name,
    coalesce(current_versions.status, 'unknown') as status,
    current_versions.platform_status,
    current_versions.creative_id,
    current_versions.creative_title,
    current_versions.creative_body,
    current_versions.creative_type,
    -- From the live record: Meta signs the address anew on every read, and a version's own has expired.
    live.thumbnail_url,
    reported.first_day,
    reported.last_day,
    current_versions.dbt_valid_from as attributes_since,
    current_versions.ad_id is null as is_inferred
from current_versions
full outer join reported using (tenant_id, source_platform, ad_account_id, ad_id)
left join {{ ref('int_ads') }} as live using (tenant_id, source_platform, ad_account_id, ad_id)
