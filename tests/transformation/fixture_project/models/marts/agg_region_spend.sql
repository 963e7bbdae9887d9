select facts.date_day, regions.region, sum(facts.spend) as spend
from {{ ref('fct_spend') }} as facts
inner join {{ ref('regions') }} as regions on facts.platform = regions.platform
group by 1, 2
