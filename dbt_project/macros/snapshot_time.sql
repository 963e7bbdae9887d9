{#- Versions begin and end at a moment, not at a wall-clock reading of whatever timezone the session has. -#}
{% macro postgres__snapshot_get_time() -%}
    now()
{%- endmacro %}
