-- Which region names no parish alias knows, by spend: what to add to seeds/parish_aliases.csv, or to leave because it
-- is not in Jamaica. `dbt show --select unmapped_regions`.
select
    geo.source_platform,
    geo.country_code,
    geo.region_name,
    geo.currency,
    count(distinct geo.tenant_id) as tenants,
    sum(geo.spend) as spend,
    max(geo.date_day) as last_day
from {{ ref('fct_geo_performance') }} as geo
left join {{ ref('int_parish_lookup') }} as lookup on {{ parish_key('geo.region_name') }} = lookup.parish_key
where lookup.parish_key is null
group by geo.source_platform, geo.country_code, geo.region_name, geo.currency
order by spend desc
