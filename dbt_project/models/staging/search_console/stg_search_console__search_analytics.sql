{{ config(enabled=provider_enabled('search_console')) }}

with current_rows as (
    {{ current_report_rows(
        source('raw_search_console', 'search_analytics'),
        slice=['site_url', 'date'],
        key=['query', 'country', 'device']
    ) }}
)

-- Withheld queries come without a text or with an empty one: one row here.
select
    tenant_uuid as tenant_id,
    'search_console' as source_platform,
    cast(site_url as text) as site_url,
    date as date_day,
    {{ or_not_set('query') }} as query,
    {{ or_not_set('lower(country)') }} as country,
    {{ or_not_set('lower(device)') }} as device,
    {{ count_or_zero('sum(clicks)') }} as clicks,
    {{ count_or_zero('sum(impressions)') }} as impressions,
    {{ ratio('sum("position" * impressions)', 'sum(impressions)') }} as average_position,
    max(_airbyte_extracted_at) as extracted_at
from current_rows
group by 1, 2, 3, 4, 5, 6, 7
