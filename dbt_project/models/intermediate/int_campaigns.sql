{%- set columns = {
    'tenant_id': 'uuid', 'source_platform': 'text', 'ad_account_id': 'text', 'campaign_id': 'text',
    'campaign_name': 'text', 'platform_status': 'text', 'status': 'text', 'objective': 'text', 'currency': 'text',
    'daily_budget': 'numeric', 'lifetime_budget': 'numeric', 'start_date': 'date', 'stop_date': 'date',
    'platform_updated_at': 'timestamptz', 'extracted_at': 'timestamptz'
} %}
{%- set tables = [] %}
{%- if provider_enabled('meta') %}{% do tables.append(ref('stg_meta__campaigns')) %}{% endif %}
{%- if provider_enabled('google_ads') %}{% do tables.append(ref('stg_google_ads__campaigns')) %}{% endif %}
{%- if provider_enabled('linkedin_ads') %}{% do tables.append(ref('stg_linkedin_ads__campaigns')) %}{% endif %}
{%- if provider_enabled('tiktok_ads') %}{% do tables.append(ref('stg_tiktok_ads__campaigns')) %}{% endif %}

{{ union_relations(tables, columns) }}
