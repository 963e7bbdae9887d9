{{ config(indexes=[{'columns': ['tenant_id', 'date_day']}]) }}

with daily as (
    select
        tenant_id,
        date_day,
        source_platform,
        ad_account_id,
        ad_id,
        {{ common_currency() }} as currency,
        cast(sum(impressions) as bigint) as impressions,
        cast(sum(clicks) as bigint) as clicks,
        {{ amount('sum(spend)') }} as spend,
        {{ amount('sum(conversions)') }} as conversions,
        {{ amount('sum(conversion_value)') }} as conversion_value,
        max(extracted_at) as extracted_at
    from {{ ref('fct_ad_performance') }}
    where ad_id <> '(none)'
    group by tenant_id, date_day, source_platform, ad_account_id, ad_id
)

select
    daily.tenant_id,
    daily.date_day,
    daily.source_platform,
    daily.ad_account_id,
    ads.campaign_id,
    ads.adset_id,
    daily.ad_id,
    campaigns.campaign_name,
    ads.ad_name,
    ads.status as ad_status,
    ads.creative_id,
    ads.creative_title,
    ads.creative_type,
    ads.thumbnail_url,
    daily.currency,
    daily.impressions,
    daily.clicks,
    daily.spend,
    daily.conversions,
    daily.conversion_value,
    {{ metric_columns() }},
    daily.extracted_at
from daily
left join {{ ref('dim_ad') }} as ads
    using (tenant_id, source_platform, ad_account_id, ad_id)
left join {{ ref('dim_campaign') }} as campaigns
    on
        ads.tenant_id = campaigns.tenant_id
        and ads.source_platform = campaigns.source_platform
        and ads.ad_account_id = campaigns.ad_account_id
        and ads.campaign_id = campaigns.campaign_id
