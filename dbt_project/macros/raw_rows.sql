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
  The rows of a report as its platform last told them, each with its tenant as `tenant_uuid`.

  slice: with the tenant, the raw columns of one account and day. A platform answers a slice as a whole, so the sync that
  read the slice last replaces everything that earlier syncs read of it. Airbyte only upserts: a row that the platform no
  longer reports (regrouped traffic, a filtered click) would otherwise stay for ever. The last sync is found by time,
  not by the greatest job id, because job ids start again with a new Airbyte server.
  key: the raw columns of the row's grain; of several copies the latest extracted counts.

  The tenant is compared as uuid: of an id that a connection wrote in capitals and later in small letters, Airbyte keeps
  both rows, and they are one. Both windows begin with the slice, so a filter on tenant, account or day reaches the raw
  table.
-#}
{% macro current_report_rows(relation, slice, key) -%}
    select *
    from (
        select
            *,
            _airbyte_meta ->> 'sync_id' as sync_id,
            first_value(_airbyte_meta ->> 'sync_id') over (
                partition by tenant_uuid, {{ slice | join(', ') }}
                order by _airbyte_extracted_at desc, _airbyte_raw_id desc
            ) as latest_sync_id,
            row_number() over (
                partition by tenant_uuid, {{ (slice + key) | join(', ') }}
                order by _airbyte_extracted_at desc, _airbyte_raw_id desc
            ) as copy_number
        from {{ rows_of_tenants(relation) }}
    ) as ranked
    where
        sync_id is not distinct from latest_sync_id
        and copy_number = 1
        and tenant_uuid is not null
{%- endmacro %}

{#- The newest copy of each record of a dimension table. key: its raw key columns beside the tenant. -#}
{% macro current_records(relation, key) -%}
    select distinct on (tenant_uuid, {{ key | join(', ') }}) *
    from {{ rows_of_tenants(relation) }}
    where tenant_uuid is not null
    order by tenant_uuid asc, {{ key | join(' asc, ') }} asc, _airbyte_extracted_at desc, _airbyte_raw_id desc
{%- endmacro %}

{% macro rows_of_tenants(relation) -%}
    (select *, {{ tenant_uuid() }} as tenant_uuid from {{ relation }}) as owned_rows
{%- endmacro %}

{#-
  The currency of each account, as a report names it that has one.
  raw_account: the account's raw column; account: the expression of the account on it; currency: the raw column.
-#}
{% macro account_currencies(report, raw_account, account, currency) -%}
    select
        {{ tenant_uuid() }} as tenant_id,
        {{ account }} as ad_account_id,
        max(currency) as currency
    from (
        -- Grouped as they are first: the expressions above run once per account and not once per row.
        select tenant_id, {{ raw_account }}, max({{ currency }}) as currency
        from {{ report }}
        group by tenant_id, {{ raw_account }}
    ) as raw_accounts
    group by 1, 2
{%- endmacro %}
