{#-
  A history has at most one version at any moment, and an open end only in the last one. Returns versions that do not
  end before the next begins: a join "as of a day" would count such a row twice.
-#}
{% test no_overlapping_versions(model, key) %}
select *
from (
    select
        {{ key | join(', ') }},
        dbt_valid_from,
        dbt_valid_to,
        lead(dbt_valid_from) over (partition by {{ key | join(', ') }} order by dbt_valid_from) as next_valid_from
    from {{ model }}
) as versions
where next_valid_from is not null and (dbt_valid_to is null or dbt_valid_to > next_valid_from)
{% endtest %}
