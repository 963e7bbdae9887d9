{#-
  Aggregates sum within an account and carry its currency. That is only right while an account has one currency, which
  every platform promises.
-#}
{{ config(meta={'dagster': {'ref': {'name': 'fct_ad_performance'}}}) }}
select
    tenant_id,
    source_platform,
    ad_account_id,
    string_agg(distinct currency, ', ') as currencies
from {{ ref('fct_ad_performance') }}
where currency <> 'XXX'
group by tenant_id, source_platform, ad_account_id
having count(distinct currency) > 1
