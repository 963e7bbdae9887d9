{#-
  Reading Airbyte's raw tables: which rows count, and whose they are.
-#}

{#-
  A raw tenant id as uuid, null when it is not one. The CASE matters: Postgres may evaluate a bare cast before any
  filter, and then one misconfigured connection would fail the build of every tenant. The three conditions together say
  what one regular expression would (dashes in their places and nowhere else, hexadecimal digits), in a fifth of the time.
-#}
{% macro tenant_uuid(column='tenant_id') -%}
    case
        when
            {{ column }} like '________-____-____-____-____________'
            and {{ column }} !~ '[^0-9a-fA-F-]'
            and length(replace({{ column }}, '-', '')) = 32
            then cast({{ column }} as uuid)
    end
{%- endmacro %}

{#-
  The rows of a report as its platform last told them.

  slice: the raw columns of one tenant, account and day. A platform answers a slice as a whole, so the sync that read
  the slice last replaces everything that earlier syncs read of it. Airbyte only upserts: a row that the platform no
  longer reports (regrouped traffic, a filtered click) would otherwise stay for ever. The last sync is found by time,
  not by the greatest job id, because job ids start again with a new Airbyte server.
  key: the raw columns of the row's grain; of several copies the latest extracted counts.

  Both windows begin with the slice, so a filter on tenant, account or day reaches the raw table.
-#}
{% macro current_report_rows(relation, slice, key) -%}
    select *
    from (
        select
            *,
            _airbyte_meta ->> 'sync_id' as sync_id,
            first_value(_airbyte_meta ->> 'sync_id') over (
                partition by {{ slice | join(', ') }}
                order by _airbyte_extracted_at desc, _airbyte_raw_id desc
            ) as latest_sync_id,
            row_number() over (
                partition by {{ (slice + key) | join(', ') }}
                order by _airbyte_extracted_at desc, _airbyte_raw_id desc
            ) as copy_number
        from {{ relation }}
    ) as ranked
    where
        sync_id is not distinct from latest_sync_id
        and copy_number = 1
        and {{ tenant_uuid() }} is not null
{%- endmacro %}

{#- The newest copy of each record of a dimension table. key: its raw key columns. -#}
{% macro current_records(relation, key) -%}
    select distinct on ({{ key | join(', ') }}) *
    from {{ relation }}
    where {{ tenant_uuid() }} is not null
    order by {{ key | join(' asc, ') }} asc, _airbyte_extracted_at desc, _airbyte_raw_id desc
{%- endmacro %}
