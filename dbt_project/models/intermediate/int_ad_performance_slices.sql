{%- set meta = source('raw_meta', 'ad_insights') if provider_enabled('meta') %}
{%- set google = source('raw_google_ads', 'campaign_daily') if provider_enabled('google_ads') %}
{%- set linkedin = source('raw_linkedin_ads', 'ad_analytics') if provider_enabled('linkedin_ads') %}
{%- set tiktok = source('raw_tiktok_ads', 'ads_report_daily') if provider_enabled('tiktok_ads') %}

{{ reported_slices([
    ('meta', meta, 'account_id', meta_account_id(), 'date_start'),
    ('google_ads', google, 'customer_id', google_customer_id(), 'date'),
    ('linkedin_ads', linkedin, 'account_id', linkedin_id('account_id'), 'date'),
    ('tiktok_ads', tiktok, 'advertiser_id', 'cast(advertiser_id as text)', 'stat_time_day')
]) }}
