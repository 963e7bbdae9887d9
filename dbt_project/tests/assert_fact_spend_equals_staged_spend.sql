{#-
  Late rows are not lost and gone rows do not survive: per tenant, account and day the fact holds the spend, clicks and
  conversions that the staging models hold now.
-#}
{{ config(tags=['whole_history'], meta={'dagster': {'ref': {'name': 'fct_ad_performance'}}}) }}
{{ slice_differences(
    built=ref('fct_ad_performance'),
    staged=ref('int_ad_performance'),
    reported=ref('int_ad_performance_slices'),
    measures=['spend', 'impressions', 'clicks', 'conversions']
) }}
