{%- set meta = source('raw_meta', 'ad_insights') if provider_enabled('meta') %}
{%- set google = source('raw_google_ads', 'geographic_view') if provider_enabled('google_ads') %}

{{ reported_slices([
    ('meta', meta, 'account_id', meta_account_id(), 'date_start'),
    ('google_ads', google, 'customer_id', google_customer_id(), 'date')
]) }}
