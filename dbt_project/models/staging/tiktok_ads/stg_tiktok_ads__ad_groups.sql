{{ config(enabled=provider_enabled('tiktok_ads')) }}

with current_rows as (
    {{ current_records(source('raw_tiktok_ads', 'ad_groups'), key=['adgroup_id']) }}
)

select
    tenant_uuid as tenant_id,
    'tiktok_ads' as source_platform,
    cast(advertiser_id as text) as ad_account_id,
    {{ or_none('campaign_id') }} as campaign_id,
    cast(adgroup_id as text) as adset_id,
    cast(adgroup_name as text) as adset_name,
    cast(operation_status as text) as platform_status,
    {{ delivery_status('operation_status') }} as status,
    -- The table tells an amount but not whether it is for a day or for good; half a fact is none.
    {{ amount('null') }} as daily_budget,
    modify_time as platform_updated_at,
    _airbyte_extracted_at as extracted_at
from current_rows
