{#-
  The one spelling of a region name that the parish lookup compares. Platforms write `St. Andrew`, `Saint Andrew
  Parish`, `SAINT ANDREW, Jamaica`; all become `saint andrew`. Used on both sides of the join and nowhere else.
-#}
{% macro parish_key(column) -%}
    trim(regexp_replace(
        regexp_replace(
            regexp_replace(
                regexp_replace(
                    lower(translate(
                        {{ column }},
                        'áàâäãéèêëíìîïóòôöõúùûüñçÁÀÂÄÃÉÈÊËÍÌÎÏÓÒÔÖÕÚÙÛÜÑÇ',
                        'aaaaaeeeeiiiiooooouuuuncaaaaaeeeeiiiiooooouuuunc'
                    )),
                    '[^a-z0-9]+', ' ', 'g'
                ),
                '\mst\M', 'saint', 'g'
            ),
            '\m(parish|of|jamaica)\M', ' ', 'g'
        ),
        '\s+', ' ', 'g'
    ))
{%- endmacro %}

{#- The bucket for spend outside Jamaica or in a region that no alias names: shown, never dropped. -#}
{% macro unmapped_parish() -%}
    unmapped
{%- endmacro %}
