{#- One test for all columns that may never be null; the row returned tells which are. -#}
{% test not_null_columns(model, columns) %}
select *
from (
    select
        {%- for column in columns %}
        count(*) - count({{ column }}) as null_{{ column }}{{ "," if not loop.last }}
        {%- endfor %}
    from {{ model }}
) as nulls
where {% for column in columns %}null_{{ column }} > 0{{ " or " if not loop.last }}{% endfor %}
{% endtest %}
