{#- A foreign key of several columns: each combination in the model exists in `to`. Returns those that do not. -#}
{% test references_combination(model, columns, to) %}
select distinct {{ columns | join(', ') }}
from {{ model }}
except
select {{ columns | join(', ') }}
from {{ to }}
{% endtest %}
