{#-
  How the incremental facts take rows. Their unit is the slice: one tenant, platform, account and day, the unit in
  which platforms re-state their reports. A build opens slices again, computes them from staging as a whole, deletes
  them from the table and inserts the result, so that a row that is gone from a slice is gone from the fact.

  Every comparison is between a slice and its own account's past. Nothing looks at the newest day or the newest
  extraction of the whole table, which would close the books of a tenant whose data arrives later than the others'.
-#}
{% macro slice_columns(account='ad_account_id') -%}
    {{ return(['tenant_id', 'source_platform', account, 'date_day']) }}
{%- endmacro %}

{#-
  When each slice of the raw reports was last extracted. Read from the raw tables: the staging views sort whole reports
  to find the rows that count, and this is known without.
  reports: list of (platform, raw relation, account column, expression of the account on it, day column), of which
  those whose provider is switched off take no part; account: the account's name in the result.
-#}
{% macro reported_slices(reports, account='ad_account_id') -%}
    {%- for platform, relation, raw_account, account_expression, day in reports if provider_enabled(platform) %}
    select
        {{ tenant_uuid() }} as tenant_id,
        '{{ platform }}' as source_platform,
        {{ account_expression }} as {{ account }},
        {{ day }} as date_day,
        max(_airbyte_extracted_at) as extracted_at
    from (
        -- Grouped as they are first, and `offset 0` keeps Postgres from moving the filter below the grouping again:
        -- the expressions above run once per slice and not once per row.
        select tenant_id, {{ raw_account }}, {{ day }}, max(_airbyte_extracted_at) as _airbyte_extracted_at
        from {{ relation }}
        group by tenant_id, {{ raw_account }}, {{ day }}
        offset 0
    ) as raw_slices
    where {{ tenant_uuid() }} is not null
    group by 1, 2, 3, 4
    {%- if not loop.last %}
    union all
    {%- endif %}
    {%- else %}
    select
        cast(null as uuid) as tenant_id,
        cast(null as text) as source_platform,
        cast(null as text) as {{ account }},
        cast(null as date) as date_day,
        cast(null as timestamptz) as extracted_at
    where false
    {%- endfor %}
{%- endmacro %}

{#-
  The slices that this build must compute. A slice is open when
  1. the table has never had it,
  2. the raw table holds a row of it that was extracted since it was built,
  3. it was extracted within `commit_lag_minutes` of its account's own watermark, because rows are stamped when they
     are read and seen when they are committed, not always in that order,
  4. it is at most `lookback_days` before its account's own newest day.
  reported: the relation of the fact's reported slices. account: the account column's name.
-#}
{% macro open_slices(reported, account='ad_account_id') -%}
    select
        reported.tenant_id,
        reported.source_platform,
        reported.{{ account }},
        reported.date_day
    from {{ reported }} as reported
    left join (
        select {{ slice_columns(account) | join(', ') }}, max(extracted_at) as extracted_at
        from {{ this }}
        group by {{ slice_columns(account) | join(', ') }}
    ) as built
        on
            reported.tenant_id = built.tenant_id
            and reported.source_platform = built.source_platform
            and reported.{{ account }} = built.{{ account }}
            and reported.date_day = built.date_day
    left join (
        select
            tenant_id, source_platform, {{ account }},
            max(extracted_at) as extracted_at,
            max(date_day) as newest_day
        from {{ this }}
        group by tenant_id, source_platform, {{ account }}
    ) as watermark
        on
            reported.tenant_id = watermark.tenant_id
            and reported.source_platform = watermark.source_platform
            and reported.{{ account }} = watermark.{{ account }}
    where
        built.date_day is null
        or reported.extracted_at > built.extracted_at
        or reported.extracted_at >= watermark.extracted_at - interval '{{ var("commit_lag_minutes") }} minutes'
        or reported.date_day >= watermark.newest_day - {{ var("lookback_days") }}
{%- endmacro %}

{#-
  Post-hook, in the transaction of the build: drop slices of which the raw tables hold nothing any more (a cleared
  connection, a tenant that left). Those of a provider that is switched off stay as they are.
-#}
{% macro delete_vanished_slices(reported, account='ad_account_id') -%}
    {%- if is_incremental() %}
    delete from {{ this }} as built
    where
        built.source_platform in ('{{ var("enabled_providers") | join("', '") }}')
        and not exists (
            select 1
            from {{ reported }} as reported
            where
                reported.tenant_id = built.tenant_id
                and reported.source_platform = built.source_platform
                and reported.{{ account }} = built.{{ account }}
                and reported.date_day = built.date_day
        )
    {%- endif %}
{%- endmacro %}

{#-
  Slices in which a built relation and its staging relation disagree; the reconciliation tests return them.

  Raw rows keep arriving while dbt runs, so a slice is judged only where both sides must agree by now: it has not been
  extracted since it was built, or it was extracted longer than `commit_lag_minutes` before the last build began.
  built: needs the slice columns, extracted_at, built_at and the measures. staged: the slice columns and the measures.
  reported: the relation of the reported slices.
-#}
{% macro slice_differences(built, staged, reported, measures, account='ad_account_id') -%}
    with built_slices as (
        select
            {{ slice_columns(account) | join(', ') }},
            max(extracted_at) as extracted_at
            {%- for measure in measures %}, sum({{ measure }}) as {{ measure }}{% endfor %}
        from {{ built }}
        where source_platform in ('{{ var("enabled_providers") | join("', '") }}')
        group by {{ slice_columns(account) | join(', ') }}
    ),

    staged_slices as (
        select
            {{ slice_columns(account) | join(', ') }}
            {%- for measure in measures %}, sum({{ measure }}) as {{ measure }}{% endfor %}
        from {{ staged }}
        group by {{ slice_columns(account) | join(', ') }}
    ),

    reported_slices as (
        select {{ slice_columns(account) | join(', ') }}, extracted_at as reported_at
        from {{ reported }}
    )

    select
        tenant_id, source_platform, {{ account }}, date_day, reported_slices.reported_at
        {%- for measure in measures %},
        built_slices.{{ measure }} as built_{{ measure }},
        staged_slices.{{ measure }} as staged_{{ measure }}
        {%- endfor %}
    from built_slices
    full outer join staged_slices using ({{ slice_columns(account) | join(', ') }})
    left join reported_slices using ({{ slice_columns(account) | join(', ') }})
    where
        (
            reported_slices.reported_at is null
            or reported_slices.reported_at = built_slices.extracted_at
            or reported_slices.reported_at
            < (select max(built_at) from {{ built }}) - interval '{{ var("commit_lag_minutes") }} minutes'
        )
        and (
            {%- for measure in measures %}
            coalesce(built_slices.{{ measure }}, 0) <> coalesce(staged_slices.{{ measure }}, 0)
            {{- "\n            or" if not loop.last }}
            {%- endfor %}
        )
{%- endmacro %}
