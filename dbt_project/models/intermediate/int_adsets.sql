{%- set columns = {
    'tenant_id': 'uuid', 'source_platform': 'text', 'ad_account_id': 'text', 'campaign_id': 'text',
    'adset_id': 'text', 'adset_name': 'text', 'platform_status': 'text', 'status': 'text',
    'daily_budget': 'numeric(38, 9)', 'platform_updated_at': 'timestamptz', 'extracted_at': 'timestamptz'
} %}
{%- set tables = [] %}
{%- do tables.append(ref('stg_meta__adsets')) if provider_enabled('meta') %}
{%- do tables.append(ref('stg_tiktok_ads__ad_groups')) if provider_enabled('tiktok_ads') %}

{{ union_relations(tables, columns) }}
