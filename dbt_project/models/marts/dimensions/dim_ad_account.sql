select
    tenant_id,
    source_platform,
    ad_account_id,
    -- The newest day whose report named a currency; XXX only when none ever did.
    coalesce((array_agg(currency order by date_day desc) filter (where currency <> 'XXX'))[1], 'XXX') as currency,
    min(date_day) as first_day,
    max(date_day) as last_day,
    max(extracted_at) as extracted_at
from {{ ref('fct_ad_performance') }}
group by tenant_id, source_platform, ad_account_id
