{{ config(
    unique_key=slice_columns(),
    indexes=[
        {
            'columns': [
                'tenant_id', 'source_platform', 'ad_account_id', 'date_day', 'campaign_id', 'country_code',
                'region_name'
            ],
            'unique': true
        }
    ],
    post_hook="{{ delete_vanished_slices(ref('int_geo_performance_slices')) }}"
) }}

{% if is_incremental() -%}
with open_slices as (
    {{ open_slices(ref('int_geo_performance_slices')) }}
)
{%- endif %}

select
    performance.tenant_id,
    performance.date_day,
    performance.source_platform,
    performance.ad_account_id,
    performance.campaign_id,
    performance.country_code,
    performance.region_name,
    performance.currency,
    performance.impressions,
    performance.clicks,
    performance.spend,
    performance.conversions,
    performance.conversion_value,
    performance.extracted_at,
    now() as built_at
from {{ ref('int_geo_performance') }} as performance
{% if is_incremental() -%}
inner join open_slices
    on
        performance.tenant_id = open_slices.tenant_id
        and performance.source_platform = open_slices.source_platform
        and performance.ad_account_id = open_slices.ad_account_id
        and performance.date_day = open_slices.date_day
-- Implied by the join; as a constant it reaches the raw tables and spares reading what is closed.
where performance.date_day >= (select min(oldest.date_day) from open_slices as oldest)
{%- endif %}
