{#-
  The parish lookup neither drops nor multiplies anything: per tenant, account and day the parishes and the unmapped
  bucket together hold the spend of the staged geographic rows.
-#}
{{ config(tags=['whole_history'], meta={'dagster': {'ref': {'name': 'agg_parish_daily'}}}) }}
{{ slice_differences(
    built=ref('agg_parish_daily'),
    staged=ref('int_geo_performance'),
    reported=ref('int_geo_performance_slices'),
    measures=['spend', 'impressions', 'clicks']
) }}
