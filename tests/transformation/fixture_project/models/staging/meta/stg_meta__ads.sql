select id as ad_id, name from {{ source('raw_meta', 'ads') }}
