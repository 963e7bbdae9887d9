{{ config(enabled='meta' in var('enabled_providers')) }}
select ad_id, name, dbt_valid_from, dbt_valid_to from {{ ref('ads_history') }}
