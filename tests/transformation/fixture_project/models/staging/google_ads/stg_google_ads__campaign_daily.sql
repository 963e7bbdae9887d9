select campaign_id, date as date_day, cost_micros / 1000000.0 as spend from {{ source('raw_google_ads', 'campaign_daily') }}
