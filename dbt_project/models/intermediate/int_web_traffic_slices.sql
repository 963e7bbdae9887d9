{%- set traffic = source('raw_ga4', 'daily_traffic') if provider_enabled('ga4') %}

{{ reported_slices(
    [('ga4', traffic, 'property_id', 'cast(property_id as text)', 'date')], account='property_id'
) }}
