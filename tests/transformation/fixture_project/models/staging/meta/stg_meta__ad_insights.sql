select ad_id, date_start as date_day, spend from {{ source('raw_meta', 'ad_insights') }}
