{%- set columns = {
    'tenant_id': 'uuid', 'source_platform': 'text', 'ad_account_id': 'text', 'campaign_id': 'text',
    'campaign_name': 'text', 'platform_status': 'text', 'status': 'text', 'objective': 'text', 'currency': 'text',
    'daily_budget': 'numeric(38, 9)', 'lifetime_budget': 'numeric(38, 9)', 'start_date': 'date',
    'stop_date': 'date', 'platform_updated_at': 'timestamptz', 'extracted_at': 'timestamptz'
} %}
{%- set tables = [] %}
{%- do tables.append(ref('stg_meta__campaigns')) if provider_enabled('meta') %}
{%- do tables.append(ref('stg_google_ads__campaigns')) if provider_enabled('google_ads') %}
{%- do tables.append(ref('stg_linkedin_ads__campaigns')) if provider_enabled('linkedin_ads') %}
{%- do tables.append(ref('stg_tiktok_ads__campaigns')) if provider_enabled('tiktok_ads') %}

{{ union_relations(tables, columns) }}
