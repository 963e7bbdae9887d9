{% test spend_is_positive(model) %}
    select * from {{ model }} where spend < 0
{% endtest %}
