{#-
  Nothing is lost or counted twice on the way from `source_model`: for every combination of `by` both sides hold the
  same sums. With the tenant in `by`, a tenant that is missing from the model is found too.
  measures: list of columns, or mapping of the model's column to the source's where they differ in name.
  source_where: condition on the rows of `source_model` that the model is made of.
-#}
{% test same_totals(model, source_model, by, measures, source_where='true') %}
{%- set pairs = measures.items() if measures is mapping else zip(measures, measures) %}
{%- set pairs = pairs | list %}
with built as (
    select {{ by | join(', ') }}{% for name, _ in pairs %}, sum({{ name }}) as {{ name }}{% endfor %}
    from {{ model }}
    group by {{ by | join(', ') }}
),

expected as (
    select {{ by | join(', ') }}{% for name, source_name in pairs %}, sum({{ source_name }}) as {{ name }}{% endfor %}
    from {{ source_model }}
    where {{ source_where }}
    group by {{ by | join(', ') }}
)

select
    {{ by | join(', ') }}
    {%- for name, _ in pairs %},
    built.{{ name }} as built_{{ name }},
    expected.{{ name }} as expected_{{ name }}
    {%- endfor %}
from built
full outer join expected using ({{ by | join(', ') }})
where {% for name, _ in pairs -%}
    built.{{ name }} is distinct from expected.{{ name }}{{ " or " if not loop.last }}
{%- endfor %}
{% endtest %}
