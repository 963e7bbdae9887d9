{{ config(indexes=[{'columns': ['tenant_id', 'date_day']}]) }}

with daily as (
    select
        tenant_id,
        date_day,
        source_platform,
        ad_account_id,
        campaign_id,
        {{ common_currency() }} as currency,
        cast(sum(impressions) as bigint) as impressions,
        cast(sum(clicks) as bigint) as clicks,
        {{ amount('sum(spend)') }} as spend,
        {{ amount('sum(conversions)') }} as conversions,
        {{ amount('sum(conversion_value)') }} as conversion_value,
        max(extracted_at) as extracted_at
    from {{ ref('fct_ad_performance') }}
    group by tenant_id, date_day, source_platform, ad_account_id, campaign_id
),

-- Versions do not overlap, so at most one is valid at the end of a day. The first one known also stands for the time
-- before: a platform does not tell what a budget was before it was first read. Meta's budgets cannot be read before a
-- report has named the account's currency; a version from before that knows nothing.
budget_versions as (
    select
        tenant_id,
        source_platform,
        ad_account_id,
        campaign_id,
        daily_budget,
        case
            when
                row_number() over (
                    partition by tenant_id, source_platform, ad_account_id, campaign_id order by dbt_valid_from
                ) = 1
                then '-infinity'
            else dbt_valid_from
        end as valid_from,
        coalesce(dbt_valid_to, 'infinity') as valid_to
    from {{ ref('snap_campaigns') }}
    where source_platform <> 'meta' or currency is not null
)

select
    daily.tenant_id,
    daily.date_day,
    daily.source_platform,
    daily.ad_account_id,
    daily.campaign_id,
    campaigns.campaign_name,
    campaigns.status as campaign_status,
    daily.currency,
    budget_versions.daily_budget as daily_budget_that_day,
    daily.impressions,
    daily.clicks,
    daily.spend,
    daily.conversions,
    daily.conversion_value,
    {{ metric_columns() }},
    daily.extracted_at
from daily
left join {{ ref('dim_campaign') }} as campaigns
    using (tenant_id, source_platform, ad_account_id, campaign_id)
left join budget_versions
    on
        daily.tenant_id = budget_versions.tenant_id
        and daily.source_platform = budget_versions.source_platform
        and daily.ad_account_id = budget_versions.ad_account_id
        and daily.campaign_id = budget_versions.campaign_id
        and {{ end_of_day('daily.date_day') }} > budget_versions.valid_from
        and {{ end_of_day('daily.date_day') }} <= budget_versions.valid_to
