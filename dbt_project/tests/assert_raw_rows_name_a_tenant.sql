{#-
  A raw row without a valid tenant id belongs to nobody and is left out of every model. Here it is counted, so that a
  connection whose configuration lacks the tenant id is noticed.
-#}
{{ config(tags=['whole_history'], meta={'dagster': {'ref': {'name': 'int_ad_performance_slices'}}}) }}
-- depends_on: {{ ref('int_ad_performance_slices') }}
{%- set relations = [] %}
{%- if provider_enabled('meta') %}
    {%- for table in ['ad_insights', 'campaigns', 'adsets', 'ads'] %}
        {%- do relations.append(source('raw_meta', table)) %}
    {%- endfor %}
{%- endif %}
{%- if provider_enabled('google_ads') %}
    {%- for table in ['campaign_daily', 'geographic_view'] %}
        {%- do relations.append(source('raw_google_ads', table)) %}
    {%- endfor %}
{%- endif %}
{%- if provider_enabled('linkedin_ads') %}
    {%- for table in ['ad_analytics', 'campaigns', 'creatives'] %}
        {%- do relations.append(source('raw_linkedin_ads', table)) %}
    {%- endfor %}
{%- endif %}
{%- if provider_enabled('tiktok_ads') %}
    {%- for table in ['ads_report_daily', 'campaigns', 'ad_groups', 'ads'] %}
        {%- do relations.append(source('raw_tiktok_ads', table)) %}
    {%- endfor %}
{%- endif %}
{%- if provider_enabled('ga4') %}{% do relations.append(source('raw_ga4', 'daily_traffic')) %}{% endif %}
{%- if provider_enabled('search_console') %}
    {%- do relations.append(source('raw_search_console', 'search_analytics')) %}
{%- endif %}

{%- for relation in relations %}
select
    '{{ relation.schema }}.{{ relation.identifier }}' as raw_table,
    tenant_id,
    count(*) as row_count
from {{ relation }}
where {{ tenant_uuid() }} is null
group by tenant_id
{{ "union all" if not loop.last }}
{%- else %}
select null as raw_table where false
{%- endfor %}
