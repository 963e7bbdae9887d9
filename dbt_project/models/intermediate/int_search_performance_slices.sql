{%- set search = source('raw_search_console', 'search_analytics') if provider_enabled('search_console') %}

{{ reported_slices(
    [('search_console', search, 'site_url', 'cast(site_url as text)', 'date')], account='site_url'
) }}
