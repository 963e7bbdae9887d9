{%- set columns = {
    'tenant_id': 'uuid', 'source_platform': 'text', 'site_url': 'text', 'date_day': 'date', 'query': 'text',
    'country': 'text', 'device': 'text', 'clicks': 'bigint', 'impressions': 'bigint',
    'average_position': 'numeric(38, 9)', 'extracted_at': 'timestamptz'
} -%}
{#- The index holds a hash of the query: a text of any length does not fit into one. -#}
{{ config(
    unique_key=slice_columns('site_url'),
    indexes=[
        {
            'columns': ['tenant_id', 'source_platform', 'site_url', 'date_day', 'country', 'device', 'md5(query)'],
            'unique': true
        }
    ],
    post_hook="{{ delete_vanished_slices(ref('int_search_performance_slices'), account='site_url') }}"
) }}

with search as (
    {{ union_relations(
        [ref('stg_search_console__search_analytics')] if provider_enabled('search_console') else [], columns
    ) }}
)
{%- if is_incremental() -%}
,

open_slices as (
    {{ open_slices(ref('int_search_performance_slices'), account='site_url') }}
)
{%- endif %}

select
    search.tenant_id,
    search.date_day,
    search.source_platform,
    search.site_url,
    search.query,
    search.country,
    search.device,
    search.clicks,
    search.impressions,
    {{ ctr('search.clicks', 'search.impressions') }} as ctr,
    search.average_position,
    search.extracted_at,
    now() as built_at
from search
{% if is_incremental() -%}
inner join open_slices
    on
        search.tenant_id = open_slices.tenant_id
        and search.source_platform = open_slices.source_platform
        and search.site_url = open_slices.site_url
        and search.date_day = open_slices.date_day
-- Implied by the join; as a constant it reaches the raw table and spares reading what is closed.
where search.date_day >= (select min(oldest.date_day) from open_slices as oldest)
{%- endif %}
