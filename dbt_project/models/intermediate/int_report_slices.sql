-- Read from the raw tables: the staging views sort whole reports to find the rows that count, and when a slice was
-- last extracted is known without that.
{%- set slices = [] %}
{%- if provider_enabled('meta') %}
    {%- set insights = source('raw_meta', 'ad_insights') %}
    {%- do slices.append(('ads', 'meta', insights, meta_account_id(), 'date_start')) %}
    {%- do slices.append(('geo', 'meta', insights, meta_account_id(), 'date_start')) %}
{%- endif %}
{%- if provider_enabled('google_ads') %}
    {%- set campaign_daily = source('raw_google_ads', 'campaign_daily') %}
    {%- set geographic_view = source('raw_google_ads', 'geographic_view') %}
    {%- do slices.append(('ads', 'google_ads', campaign_daily, google_customer_id(), '"date"')) %}
    {%- do slices.append(('geo', 'google_ads', geographic_view, google_customer_id(), '"date"')) %}
{%- endif %}
{%- if provider_enabled('linkedin_ads') %}
    {%- set ad_analytics = source('raw_linkedin_ads', 'ad_analytics') %}
    {%- do slices.append(('ads', 'linkedin_ads', ad_analytics, linkedin_id('account_id'), '"date"')) %}
{%- endif %}
{%- if provider_enabled('tiktok_ads') %}
    {%- set ads_report = source('raw_tiktok_ads', 'ads_report_daily') %}
    {%- do slices.append(('ads', 'tiktok_ads', ads_report, 'cast(advertiser_id as text)', 'stat_time_day')) %}
{%- endif %}
{%- if provider_enabled('ga4') %}
    {%- set traffic = source('raw_ga4', 'daily_traffic') %}
    {%- do slices.append(('web', 'ga4', traffic, 'cast(property_id as text)', '"date"')) %}
{%- endif %}
{%- if provider_enabled('search_console') %}
    {%- set search_analytics = source('raw_search_console', 'search_analytics') %}
    {%- do slices.append(('search', 'search_console', search_analytics, 'cast(site_url as text)', '"date"')) %}
{%- endif %}

{%- for report, platform, relation, account, day in slices %}
select
    '{{ report }}' as report,
    {{ tenant_uuid() }} as tenant_id,
    '{{ platform }}' as source_platform,
    {{ account }} as ad_account_id,
    {{ day }} as date_day,
    max(_airbyte_extracted_at) as extracted_at
from {{ relation }}
where {{ tenant_uuid() }} is not null
group by 1, 2, 3, 4, 5
{{ "union all" if not loop.last }}
{%- else %}
select
    cast(null as text) as report,
    cast(null as uuid) as tenant_id,
    cast(null as text) as source_platform,
    cast(null as text) as ad_account_id,
    cast(null as date) as date_day,
    cast(null as timestamptz) as extracted_at
where false
{%- endfor %}
