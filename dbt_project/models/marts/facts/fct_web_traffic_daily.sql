{%- set columns = {
    'tenant_id': 'uuid', 'source_platform': 'text', 'property_id': 'text', 'date_day': 'date',
    'session_source': 'text', 'session_medium': 'text', 'session_campaign': 'text', 'currency': 'text',
    'sessions': 'bigint', 'total_users': 'bigint', 'new_users': 'bigint', 'engaged_sessions': 'bigint',
    'conversions': 'numeric(38, 9)', 'revenue': 'numeric(38, 9)', 'extracted_at': 'timestamptz'
} -%}
{{ config(
    unique_key=slice_columns('property_id'),
    indexes=[
        {
            'columns': [
                'tenant_id', 'source_platform', 'property_id', 'date_day', 'session_source', 'session_medium',
                'session_campaign'
            ],
            'unique': true
        }
    ],
    post_hook="{{ delete_vanished_slices(ref('int_web_traffic_slices'), account='property_id') }}"
) }}

with traffic as (
    {{ union_relations([ref('stg_ga4__daily_traffic')] if provider_enabled('ga4') else [], columns) }}
)
{%- if is_incremental() -%}
,

open_slices as (
    {{ open_slices(ref('int_web_traffic_slices'), account='property_id') }}
)
{%- endif %}

select
    traffic.tenant_id,
    traffic.date_day,
    traffic.source_platform,
    traffic.property_id,
    traffic.session_source,
    traffic.session_medium,
    traffic.session_campaign,
    traffic.currency,
    traffic.sessions,
    traffic.total_users,
    traffic.new_users,
    traffic.engaged_sessions,
    traffic.conversions,
    traffic.revenue,
    {{ ratio('traffic.engaged_sessions', 'traffic.sessions') }} as engagement_rate,
    traffic.extracted_at,
    now() as built_at
from traffic
{% if is_incremental() -%}
inner join open_slices
    on
        traffic.tenant_id = open_slices.tenant_id
        and traffic.source_platform = open_slices.source_platform
        and traffic.property_id = open_slices.property_id
        and traffic.date_day = open_slices.date_day
-- Implied by the join; as a constant it reaches the raw table and spares reading what is closed.
where traffic.date_day >= (select min(oldest.date_day) from open_slices as oldest)
{%- endif %}
