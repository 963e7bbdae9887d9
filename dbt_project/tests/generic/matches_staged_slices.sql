{#- Slice by slice the model holds what its staging relation holds (see `slice_differences`). -#}
{% test matches_staged_slices(model, staged, report, measures, account='ad_account_id') %}
-- depends_on: {{ ref('int_report_slices') }}
{{ slice_differences(model, staged, report, measures, account) }}
{% endtest %}
