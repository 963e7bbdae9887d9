{{ config(indexes=[{'columns': ['tenant_id', 'date_day']}]) }}

-- Only the parishes are looked up here, over the whole history: a new alias moves past days too.
with regions as (
    select
        *,
        -- Other countries have a Saint Andrew too. 2388 is Google's own number for Jamaica.
        case
            when country_code in ('(none)', 'JM', 'JAM', 'JAMAICA', '2388') then {{ parish_key('region_name') }}
        end as parish_key
    from {{ ref('fct_geo_performance') }}
),

placed as (
    select
        regions.*,
        coalesce(lookup.parish, '{{ unmapped_parish() }}') as parish,
        lookup.parish_iso_code
    from regions
    left join {{ ref('int_parish_lookup') }} as lookup on regions.parish_key = lookup.parish_key
),

daily as (
    select
        tenant_id,
        date_day,
        source_platform,
        ad_account_id,
        campaign_id,
        parish,
        parish_iso_code,
        {{ common_currency() }} as currency,
        cast(sum(impressions) as bigint) as impressions,
        cast(sum(clicks) as bigint) as clicks,
        {{ amount('sum(spend)') }} as spend,
        {{ amount('sum(conversions)') }} as conversions,
        {{ amount('sum(conversion_value)') }} as conversion_value,
        max(extracted_at) as extracted_at,
        max(built_at) as built_at
    from placed
    group by tenant_id, date_day, source_platform, ad_account_id, campaign_id, parish, parish_iso_code
)

select
    daily.tenant_id,
    daily.date_day,
    daily.source_platform,
    daily.ad_account_id,
    daily.campaign_id,
    campaigns.campaign_name,
    daily.parish,
    daily.parish_iso_code,
    daily.currency,
    daily.impressions,
    daily.clicks,
    daily.spend,
    daily.conversions,
    daily.conversion_value,
    {{ metric_columns() }},
    daily.extracted_at,
    daily.built_at
from daily
left join {{ ref('dim_campaign') }} as campaigns
    using (tenant_id, source_platform, ad_account_id, campaign_id)
