{#-
  Platform spellings made common: identifiers, money, states, Meta's action lists.
-#}

{#- '(none)': what an identifier or label is when the platform has no such level or gave no value. -#}
{% macro or_none(expression) -%}
    coalesce(nullif(cast({{ expression }} as text), ''), '(none)')
{%- endmacro %}

{#- '(not set)': Google Analytics' own word for a dimension without a value, used for all web and search dimensions. -#}
{% macro or_not_set(expression) -%}
    coalesce(nullif(cast({{ expression }} as text), ''), '(not set)')
{%- endmacro %}

{#- Amounts and ratios have the precision of the raw tables' own numbers everywhere. -#}
{% macro amount(expression) -%}
    cast({{ expression }} as numeric(38, 9))
{%- endmacro %}

{#- A platform leaves out what is zero. -#}
{% macro count_or_zero(column) -%}
    cast(coalesce({{ column }}, 0) as bigint)
{%- endmacro %}

{% macro amount_or_zero(expression) -%}
    {{ amount('coalesce(' ~ expression ~ ', 0)') }}
{%- endmacro %}

{#- ISO 4217 code of an account's currency; XXX is ISO's own code for "no currency known". -#}
{% macro currency_code(expression) -%}
    coalesce(nullif(upper(cast({{ expression }} as text)), ''), 'XXX')
{%- endmacro %}

{#- The currency of an account's rows; one that is known wins over XXX. -#}
{% macro common_currency(column='currency') -%}
    coalesce(max(nullif({{ column }}, 'XXX')), 'XXX')
{%- endmacro %}

{#- Meta writes an ad account as `act_123` in some answers and as `123` in others. -#}
{% macro meta_account_id(column='account_id') -%}
    regexp_replace(cast({{ column }} as text), '^act_', '')
{%- endmacro %}

{#-
  The account's own day of a Meta campaign's `start_time` or `stop_time`, in whose text Meta writes the account's offset.
  The raw table keeps the moment alone, so the connector writes the day beside it (`start_date`, `stop_date`). Raw tables
  of connectors that do not have no such column; there the day is that of the variable `account_timezone`.
  which: `start` or `stop`.
-#}
{% macro meta_local_date(which, rows='current_rows') -%}
    coalesce(
        cast(to_jsonb({{ rows }}) ->> '{{ which }}_date' as date),
        cast({{ rows }}.{{ which }}_time at time zone '{{ var("account_timezone") }}' as date)
    )
{%- endmacro %}

{#- The moment at which an account's day is over; as a timestamp first, so that the session's timezone has no part in it. -#}
{% macro end_of_day(day) -%}
    cast({{ day }} + 1 as timestamp) at time zone '{{ var("account_timezone") }}'
{%- endmacro %}

{#- Google shows a customer as `123-456-7890` and reports it as `1234567890`. -#}
{% macro google_customer_id(column='customer_id') -%}
    replace(cast({{ column }} as text), '-', '')
{%- endmacro %}

{#- LinkedIn names entities as `urn:li:sponsoredCampaign:123` or as `123`, depending on the endpoint. -#}
{% macro linkedin_id(column) -%}
    regexp_replace(cast({{ column }} as text), '^urn:li:[A-Za-z]+:', '')
{%- endmacro %}

{% macro from_micros(column) -%}
    {{ amount('cast(' ~ column ~ ' as numeric) / 1000000') }}
{%- endmacro %}

{#-
  Meta's money in the smallest unit that it counts in, as currency units. The divisor is Meta's own "currency offset":
  1 for these currencies, 100 for all others (Marketing API, "Currency Codes"). Null while the currency is unknown: a
  guess would be wrong by a factor of 100.
-#}
{% macro from_meta_minor_units(column, currency) -%}
    cast(
        {{ column }} / case
            when {{ currency }} in ('CLP', 'COP', 'CRC', 'HUF', 'ISK', 'IDR', 'JPY', 'KRW', 'PYG', 'TWD', 'VND') then 1
            when {{ currency }} is not null then 100
        end as numeric(38, 9)
    )
{%- endmacro %}

{#- A platform's delivery state as `active`, `paused`, `ended` or `unknown`. -#}
{% macro delivery_status(column) -%}
    case
        when upper({{ column }}) in ('ACTIVE', 'ENABLED', 'ENABLE') then 'active'
        when upper({{ column }}) in ('PAUSED', 'CAMPAIGN_PAUSED', 'ADSET_PAUSED', 'DISABLE', 'DRAFT') then 'paused'
        when
            upper({{ column }}) in ('ARCHIVED', 'DELETED', 'DELETE', 'REMOVED', 'COMPLETED', 'CANCELED', 'CANCELLED')
            then 'ended'
        else 'unknown'
    end
{%- endmacro %}

{#-
  Sum over the conversion families (var `meta_conversion_families`) of the first action type of each that the row has.
  column: jsonb list of `{action_type, value}`; anything but a list counts as empty.
-#}
{% macro meta_conversion_total(column) -%}
    (
        select coalesce(sum(counted.value), 0)
        from (
            select distinct on (accepted.family) reported.value
            from
                jsonb_to_recordset(
                    case when jsonb_typeof({{ column }}) = 'array' then {{ column }} else '[]'::jsonb end
                ) as reported (action_type text, value numeric)
            inner join (
                values
                {%- for family in var('meta_conversion_families') %}
                {%- set family_number = loop.index %}
                {%- set last_family = loop.last %}
                {%- for action_type in family %}
                ({{ family_number }}, {{ loop.index }}, '{{ action_type }}'){{ "," if not (last_family and loop.last) }}
                {%- endfor %}
                {%- endfor %}
            ) as accepted (family, preference, action_type) on reported.action_type = accepted.action_type
            order by accepted.family, accepted.preference
        ) as counted
    )
{%- endmacro %}
