{{ config(materialized='table') }}

-- Several aliases share a key ('St. Andrew', 'Saint Andrew Parish'); without `distinct` a join on the key would count
-- a region's spend once per alias.
select distinct
    {{ parish_key('aliases.alias') }} as parish_key,
    cast(parishes.parish as text) as parish,
    cast(parishes.iso_code as text) as parish_iso_code
from {{ ref('parish_aliases') }} as aliases
inner join {{ ref('parishes') }} as parishes on aliases.parish = parishes.parish
