{%- set columns = {
    'tenant_id': 'uuid', 'source_platform': 'text', 'ad_account_id': 'text', 'campaign_id': 'text',
    'adset_id': 'text', 'ad_id': 'text', 'ad_name': 'text', 'platform_status': 'text', 'status': 'text',
    'creative_id': 'text', 'creative_title': 'text', 'creative_body': 'text', 'creative_type': 'text',
    'thumbnail_url': 'text', 'platform_updated_at': 'timestamptz', 'extracted_at': 'timestamptz'
} %}
{%- set tables = [] %}
{%- do tables.append(ref('stg_meta__ads')) if provider_enabled('meta') %}
{%- do tables.append(ref('stg_linkedin_ads__creatives')) if provider_enabled('linkedin_ads') %}
{%- do tables.append(ref('stg_tiktok_ads__ads')) if provider_enabled('tiktok_ads') %}

{{ union_relations(tables, columns) }}
