{#-
  Every ratio that a dashboard shows, defined once. Ratios are of sums, never averages of ratios, and null where the
  denominator is zero: "no clicks" has no cost per click, and 0 would look like a free one.
-#}
{% macro ratio(numerator, denominator) -%}
    {{ amount('cast(' ~ numerator ~ ' as numeric) / nullif(' ~ denominator ~ ', 0)') }}
{%- endmacro %}

{#- Click-through rate: clicks per impression, 0 to 1. -#}
{% macro ctr(clicks='clicks', impressions='impressions') -%}
    {{ ratio(clicks, impressions) }}
{%- endmacro %}

{#- Cost per click, in the row's currency. -#}
{% macro cpc(spend='spend', clicks='clicks') -%}
    {{ ratio(spend, clicks) }}
{%- endmacro %}

{#- Cost per thousand impressions, in the row's currency. -#}
{% macro cpm(spend='spend', impressions='impressions') -%}
    {{ ratio('(1000 * ' ~ spend ~ ')', impressions) }}
{%- endmacro %}

{#- Conversions per click. May exceed 1: a click can convert more than once. -#}
{% macro conversion_rate(conversions='conversions', clicks='clicks') -%}
    {{ ratio(conversions, clicks) }}
{%- endmacro %}

{#- Cost per conversion (acquisition), in the row's currency. -#}
{% macro cpa(spend='spend', conversions='conversions') -%}
    {{ ratio(spend, conversions) }}
{%- endmacro %}

{#- Return on ad spend: conversion value per unit of spend. -#}
{% macro roas(conversion_value='conversion_value', spend='spend') -%}
    {{ ratio(conversion_value, spend) }}
{%- endmacro %}

{#- All six, under their own names, for a model whose columns carry the common names. -#}
{% macro metric_columns() -%}
    {{ ctr() }} as ctr,
    {{ cpc() }} as cpc,
    {{ cpm() }} as cpm,
    {{ conversion_rate() }} as conversion_rate,
    {{ cpa() }} as cpa,
    {{ roas() }} as roas
{%- endmacro %}
