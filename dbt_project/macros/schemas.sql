{#-
  Where relations go, and what may never happen there. Marts stand in the target schema itself, every other layer in
  `<target schema>_<layer>`. Schemas that begin with `raw_` belong to Airbyte: a seed or model that resolved to one
  would replace a raw table, and the data it held could only be had back from the ad platforms.
-#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {%- set schema = target.schema if custom_schema_name is none
        else target.schema ~ '_' ~ custom_schema_name | trim -%}
    {%- if schema.startswith('raw_') -%}
        {{ exceptions.raise_compiler_error(
            "'" ~ node.name ~ "' would be built in '" ~ schema ~ "', and raw_* schemas belong to Airbyte. "
            ~ "Change ADINSIGHTS_DBT__SCHEMA or the node's schema."
        ) }}
    {%- endif -%}
    {{ return(schema) }}
{%- endmacro %}

{#-
  Runs before anything else of every invocation and stops it. It looks at the resolved graph rather than at
  configuration, so it also holds for a project that replaced `generate_schema_name`.
-#}
{% macro refuse_unsafe_invocation() -%}
    {%- if execute -%}
        {%- set raw_schemas = graph.sources.values() | map(attribute='schema') | unique | list -%}
        {%- for node in graph.nodes.values() if node.resource_type in ('model', 'seed', 'snapshot') -%}
            {%- if node.schema in raw_schemas or node.schema.startswith('raw_') -%}
                {{ exceptions.raise_compiler_error(
                    node.unique_id ~ " resolves to '" ~ node.schema ~ "." ~ node.alias
                    ~ "', which is a raw schema: nothing was run. Give it a schema of its own."
                ) }}
            {%- endif -%}
        {%- endfor -%}
        {%- for name in invocation_args_dict.get('vars', {}) if 'tenant' in name -%}
            {{ exceptions.raise_compiler_error(
                "There is no variable '" ~ name ~ "': every table holds all tenants, and a run for one of them "
                ~ "would rebuild it without the others. Run without it; only what changed is built anyway."
            ) }}
        {%- endfor -%}
    {%- endif -%}
{%- endmacro %}
