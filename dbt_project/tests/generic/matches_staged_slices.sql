{#- Slice by slice the model holds what its staging relation holds (see `slice_differences`). -#}
{% test matches_staged_slices(model, staged, reported, measures, account='ad_account_id') %}
{{ slice_differences(model, staged, reported, measures, account) }}
{% endtest %}
