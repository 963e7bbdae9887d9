{%- set columns = {
    'tenant_id': 'uuid', 'source_platform': 'text', 'ad_account_id': 'text', 'date_day': 'date',
    'campaign_id': 'text', 'country_code': 'text', 'region_name': 'text', 'currency': 'text',
    'impressions': 'bigint', 'clicks': 'bigint', 'spend': 'numeric(38, 9)', 'conversions': 'numeric(38, 9)',
    'conversion_value': 'numeric(38, 9)', 'extracted_at': 'timestamptz'
} %}
{%- set reports = [] %}
{%- do reports.append(ref('stg_meta__ad_insights')) if provider_enabled('meta') %}
{%- do reports.append(ref('stg_google_ads__geographic_view')) if provider_enabled('google_ads') %}

with reported as (
    {{ union_relations(reports, columns) }}
)

select
    tenant_id,
    source_platform,
    ad_account_id,
    date_day,
    campaign_id,
    country_code,
    region_name,
    {{ common_currency() }} as currency,
    cast(sum(impressions) as bigint) as impressions,
    cast(sum(clicks) as bigint) as clicks,
    {{ amount('sum(spend)') }} as spend,
    {{ amount('sum(conversions)') }} as conversions,
    {{ amount('sum(conversion_value)') }} as conversion_value,
    max(extracted_at) as extracted_at
from reported
group by tenant_id, source_platform, ad_account_id, date_day, campaign_id, country_code, region_name
