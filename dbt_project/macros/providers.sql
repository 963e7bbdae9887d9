{#-
  Which providers take part. Models ask `provider_enabled`; a provider that is switched off has no sources and no
  staging models, and the unions downstream simply have one branch less. A misspelt name would silently drop a
  provider's data, so it is an error.
-#}
{% macro known_providers() -%}
    {{ return(['meta', 'google_ads', 'linkedin_ads', 'tiktok_ads', 'ga4', 'search_console']) }}
{%- endmacro %}

{% macro provider_enabled(provider) -%}
    {%- for name in var('enabled_providers') if name not in known_providers() -%}
        {{ exceptions.raise_compiler_error(
            "enabled_providers names the unknown provider '" ~ name ~ "'. Known: " ~ known_providers() | join(', ')
        ) }}
    {%- endfor -%}
    {{ return(provider in var('enabled_providers')) }}
{%- endmacro %}

{#-
  `select <columns>` from each relation, joined by `union all`; with no relation at all an empty result of the same
  columns and types, so that the marts stay in place whichever providers are on.
  columns: mapping of column name to Postgres type.
-#}
{% macro union_relations(relations, columns) -%}
    {%- for relation in relations %}
    select
        {%- for column in columns %}
        {{ column }}{{ "," if not loop.last }}
        {%- endfor %}
    from {{ relation }}
    {%- if not loop.last %}
    union all
    {%- endif %}
    {%- else %}
    select
        {%- for column, type in columns.items() %}
        cast(null as {{ type }}) as {{ column }}{{ "," if not loop.last }}
        {%- endfor %}
    where false
    {%- endfor %}
{%- endmacro %}
