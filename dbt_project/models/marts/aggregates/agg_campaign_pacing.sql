-- A campaign is judged on its account's newest reported day, not on today's date: a late sync then shows as an old
-- `as_of_date`, and not as a campaign that stopped spending.
with accounts as (
    select
        tenant_id,
        source_platform,
        ad_account_id,
        currency,
        last_day as as_of_date,
        cast(date_trunc('month', last_day) as date) as month_start,
        cast(date_trunc('month', last_day) + interval '1 month' - interval '1 day' as date) as month_end
    from {{ ref('dim_ad_account') }}
),

-- Meta lets a budget stand on the ad sets instead of on the campaign.
adset_budgets as (
    select
        tenant_id,
        source_platform,
        ad_account_id,
        campaign_id,
        {{ amount('sum(daily_budget)') }} as daily_budget
    from {{ ref('dim_adset') }}
    where status = 'active'
    group by tenant_id, source_platform, ad_account_id, campaign_id
),

spend as (
    select
        daily.tenant_id,
        daily.source_platform,
        daily.ad_account_id,
        daily.campaign_id,
        {{ amount('sum(daily.spend)') }} as spend_to_date,
        {{ amount_or_zero('sum(daily.spend) filter (where daily.date_day >= accounts.month_start)') }}
            as spend_month_to_date,
        {{ amount_or_zero('sum(daily.spend) filter (where daily.date_day > accounts.as_of_date - 7) / 7') }}
            as average_daily_spend_last_7_days
    from {{ ref('agg_campaign_daily') }} as daily
    inner join accounts using (tenant_id, source_platform, ad_account_id)
    group by daily.tenant_id, daily.source_platform, daily.ad_account_id, daily.campaign_id
),

campaigns as (
    select
        tenant_id,
        source_platform,
        ad_account_id,
        campaign_id,
        campaigns.campaign_name,
        campaigns.status as campaign_status,
        accounts.currency,
        accounts.as_of_date,
        accounts.month_start,
        accounts.month_end,
        coalesce(campaigns.status in ('paused', 'ended'), false) as is_stopped,
        campaigns.start_date,
        campaigns.stop_date,
        campaigns.lifetime_budget,
        case
            when campaigns.daily_budget is not null or campaigns.lifetime_budget is not null then 'campaign'
            when adset_budgets.daily_budget is not null then 'adsets'
            else 'none'
        end as budget_source,
        case
            when campaigns.daily_budget is not null then campaigns.daily_budget
            when campaigns.lifetime_budget is null then adset_budgets.daily_budget
        end as daily_budget,
        greatest(accounts.month_start, campaigns.start_date) as flight_start_in_month,
        least(accounts.month_end, campaigns.stop_date) as flight_end_in_month,
        {{ amount_or_zero('spend.spend_to_date') }} as spend_to_date,
        {{ amount_or_zero('spend.spend_month_to_date') }} as spend_month_to_date,
        {{ amount_or_zero('spend.average_daily_spend_last_7_days') }} as average_daily_spend_last_7_days
    from {{ ref('dim_campaign') }} as campaigns
    inner join accounts using (tenant_id, source_platform, ad_account_id)
    left join adset_budgets using (tenant_id, source_platform, ad_account_id, campaign_id)
    left join spend using (tenant_id, source_platform, ad_account_id, campaign_id)
),

flights as (
    select
        *,
        greatest(flight_end_in_month - flight_start_in_month + 1, 0) as flight_days_in_month,
        greatest(least(as_of_date, flight_end_in_month) - flight_start_in_month + 1, 0) as flight_days_elapsed
    from campaigns
),

-- A lifetime budget is spread evenly over the flight; without both ends of the flight it cannot be. A campaign that was
-- stopped keeps its budget and, on most platforms, an open flight: it would be behind for ever, and its account's plan
-- would hold money that nobody means to spend.
planned as (
    select
        *,
        case
            when is_stopped then null
            when daily_budget is not null then daily_budget * flight_days_in_month
            when stop_date >= start_date
                then lifetime_budget * flight_days_in_month / (stop_date - start_date + 1)
        end as budget_this_month
    from flights
),

paced as (
    select
        *,
        budget_this_month * flight_days_elapsed / nullif(flight_days_in_month, 0) as expected_spend_month_to_date,
        case
            when is_stopped then spend_month_to_date
            else spend_month_to_date * flight_days_in_month / nullif(flight_days_elapsed, 0)
        end as projected_spend_this_month
    from planned
)

select
    tenant_id,
    source_platform,
    ad_account_id,
    campaign_id,
    campaign_name,
    campaign_status,
    currency,
    as_of_date,
    budget_source,
    daily_budget,
    lifetime_budget,
    flight_days_in_month,
    flight_days_elapsed,
    {{ amount('budget_this_month') }} as budget_this_month,
    spend_to_date,
    spend_month_to_date,
    average_daily_spend_last_7_days,
    {{ amount('expected_spend_month_to_date') }} as expected_spend_month_to_date,
    {{ ratio('spend_month_to_date', 'expected_spend_month_to_date') }} as pacing_ratio,
    {{ amount('projected_spend_this_month') }} as projected_spend_this_month,
    {{ amount('projected_spend_this_month - budget_this_month') }} as projected_variance,
    {{ ratio('spend_to_date', 'lifetime_budget') }} as lifetime_budget_used,
    case
        when is_stopped then 'not_delivering'
        when budget_this_month is null then 'no_budget'
        when coalesce(expected_spend_month_to_date, 0) = 0 then 'not_in_flight'
        when spend_month_to_date > expected_spend_month_to_date * (1 + {{ var('pacing_tolerance') }}) then 'ahead'
        when spend_month_to_date < expected_spend_month_to_date * (1 - {{ var('pacing_tolerance') }}) then 'behind'
        else 'on_track'
    end as pacing_status
from paced
