{%- set parts = [] %}
{%- if 'meta' in var('enabled_providers') %}
    {%- do parts.append("select 'meta' as platform, ad_id as entity_id, date_day, spend from " ~ ref('stg_meta__ad_insights')) %}
{%- endif %}
{%- if 'google_ads' in var('enabled_providers') %}
    {%- do parts.append("select 'google_ads' as platform, campaign_id as entity_id, date_day, spend from " ~ ref('stg_google_ads__campaign_daily')) %}
{%- endif %}
{{ parts | join("\nunion all\n") }}
