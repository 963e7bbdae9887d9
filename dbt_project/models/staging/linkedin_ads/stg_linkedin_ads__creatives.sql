{{ config(enabled=provider_enabled('linkedin_ads')) }}

with current_rows as (
    {{ current_records(source('raw_linkedin_ads', 'creatives'), key=[linkedin_id('id')]) }}
)

select
    tenant_uuid as tenant_id,
    'linkedin_ads' as source_platform,
    {{ linkedin_id('account_id') }} as ad_account_id,
    {{ or_none(linkedin_id('campaign_id')) }} as campaign_id,
    '(none)' as adset_id,
    {{ linkedin_id('id') }} as ad_id,
    cast(name as text) as ad_name,
    cast(status as text) as platform_status,
    {{ delivery_status('status') }} as status,
    {{ linkedin_id('id') }} as creative_id,
    cast(null as text) as creative_title,
    cast(null as text) as creative_body,
    cast(null as text) as creative_type,
    cast(null as text) as thumbnail_url,
    last_modified as platform_updated_at,
    _airbyte_extracted_at as extracted_at
from current_rows
