{{ config(enabled=provider_enabled('tiktok_ads')) }}

with current_rows as (
    {{ current_records(source('raw_tiktok_ads', 'ads'), key=['ad_id']) }}
)

select
    tenant_uuid as tenant_id,
    'tiktok_ads' as source_platform,
    cast(advertiser_id as text) as ad_account_id,
    {{ or_none('campaign_id') }} as campaign_id,
    {{ or_none('adgroup_id') }} as adset_id,
    cast(ad_id as text) as ad_id,
    cast(ad_name as text) as ad_name,
    cast(operation_status as text) as platform_status,
    {{ delivery_status('operation_status') }} as status,
    cast(null as text) as creative_id,
    cast(null as text) as creative_title,
    cast(null as text) as creative_body,
    cast(null as text) as creative_type,
    cast(null as text) as thumbnail_url,
    modify_time as platform_updated_at,
    _airbyte_extracted_at as extracted_at
from current_rows
