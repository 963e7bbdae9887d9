{{ config(enabled=provider_enabled('meta')) }}

with current_rows as (
    {{ current_records(source('raw_meta', 'ads'), key=['id']) }}
)

select
    tenant_uuid as tenant_id,
    'meta' as source_platform,
    {{ meta_account_id() }} as ad_account_id,
    {{ or_none('campaign_id') }} as campaign_id,
    {{ or_none('adset_id') }} as adset_id,
    cast(id as text) as ad_id,
    cast(name as text) as ad_name,
    cast(status as text) as platform_status,
    {{ delivery_status('status') }} as status,
    creative ->> 'id' as creative_id,
    creative ->> 'title' as creative_title,
    creative ->> 'body' as creative_body,
    creative ->> 'object_type' as creative_type,
    creative ->> 'thumbnail_url' as thumbnail_url,
    updated_time as platform_updated_at,
    _airbyte_extracted_at as extracted_at
from current_rows
