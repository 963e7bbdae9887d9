"""How the facts take what changed: late rows, rows that are gone, and nothing that is closed."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal

import pytest

from tests.dbt_project.project import DbtProject
from tests.dbt_project.raw_data import ACME, ACME_DAYS, FIRST_SYNC, GLOBEX, INITECH_DAYS, SECOND_SYNC, meta_insight
from tests.dbt_project.raw_tables import RawWarehouse, Sync

FACTS = ("build", "--select", "fct_ad_performance", "fct_geo_performance", "--exclude-resource-type", "unit_test")
WEB = ("build", "--select", "fct_web_traffic_daily", "fct_search_performance_daily")
NEXT_SYNC = Sync(401, SECOND_SYNC.extracted_at + timedelta(hours=12))
HOUR = timedelta(hours=1)


def _spend(warehouse: RawWarehouse, table: str, tenant: str, day: date, platform: str = "meta") -> Decimal | None:
    rows = warehouse.query(
        f"select sum(spend) from analytics.{table} where tenant_id = %s and date_day = %s and source_platform = %s",
        tenant,
        day,
        platform,
    )
    total = rows[0][0]
    assert total is None or isinstance(total, Decimal)
    return total


def _rebuilt_days(warehouse: RawWarehouse, before: object, tenant: str, platform: str) -> set[object]:
    rows = warehouse.query(
        "select distinct date_day from analytics.fct_ad_performance"
        " where built_at > %s and tenant_id = %s and source_platform = %s",
        before,
        tenant,
        platform,
    )
    return {row[0] for row in rows}


def _last_build(warehouse: RawWarehouse) -> object:
    return warehouse.query("select max(built_at) from analytics.fct_ad_performance")[0][0]


def test_only_the_lookback_and_what_was_extracted_are_computed_again(
    project: DbtProject, warehouse: RawWarehouse
) -> None:
    # One hour before the watermark a row may become visible late; the rest of the first sync is closed.
    before = _last_build(warehouse)
    old_day, open_day = ACME_DAYS[1], ACME_DAYS[2]
    warehouse.append("raw_meta.ad_insights", [meta_insight(ACME, "act_1001", old_day, region="Hanover")], NEXT_SYNC)
    lagging = Sync(402, NEXT_SYNC.extracted_at - timedelta(hours=1))
    warehouse.append("raw_meta.ad_insights", [meta_insight(ACME, "act_1001", open_day, region="Hanover")], lagging)
    assert project.run(*FACTS).success

    lookback = set(ACME_DAYS[-4:])
    assert _rebuilt_days(warehouse, before, ACME, "meta") == lookback | {old_day, open_day}

    # The watermark is that of the account: what was open because of the lag stays open until the account moves on.
    before = _last_build(warehouse)
    assert project.run(*FACTS).success
    assert _rebuilt_days(warehouse, before, ACME, "meta") == lookback | {old_day, open_day}


def test_another_tenants_sync_opens_nothing_of_a_tenant_whose_days_are_closed(
    project: DbtProject, warehouse: RawWarehouse
) -> None:
    # Globex's two oldest days were read a day before the rest of its data.
    earlier = FIRST_SYNC.extracted_at - timedelta(days=1)
    warehouse.execute(
        "update raw_meta.ad_insights set _airbyte_extracted_at = %s where tenant_id = %s and date_start < %s",
        earlier,
        GLOBEX,
        date(2025, 3, 1),
    )
    before = _last_build(warehouse)
    warehouse.append("raw_meta.ad_insights", [meta_insight(ACME, "act_1001", ACME_DAYS[0], region="X")], NEXT_SYNC)

    assert project.run(*FACTS).success

    rebuilt = _rebuilt_days(warehouse, before, GLOBEX, "meta")
    assert rebuilt
    assert min(str(day) for day in rebuilt) == "2025-03-01"


def test_a_row_that_was_committed_late_is_found_by_the_lag(project: DbtProject, warehouse: RawWarehouse) -> None:
    # Two rows of one old day were read within a minute; the build saw the later one only.
    day = ACME_DAYS[0] - timedelta(days=30)
    minute = timedelta(minutes=1)
    late, early = Sync(401, NEXT_SYNC.extracted_at + minute), NEXT_SYNC
    warehouse.append("raw_meta.ad_insights", [meta_insight(ACME, "act_1001", day, ad="seen", region="A")], late)
    assert project.run(*FACTS).success
    warehouse.append("raw_meta.ad_insights", [meta_insight(ACME, "act_1001", day, ad="unseen", region="A")], early)

    assert project.run(*FACTS).success

    assert _spend(warehouse, "fct_ad_performance", ACME, day) == 2 * (100 + day.day)


def test_reading_a_day_again_replaces_its_rows_and_adds_none(project: DbtProject, warehouse: RawWarehouse) -> None:
    day = ACME_DAYS[0]
    again = [meta_insight(ACME, "act_1001", day, ad=ad, region="Hanover", spend=50) for ad in ("m-a1", "m-a3")]

    for hours in (1, 2, 3):
        warehouse.append("raw_meta.ad_insights", again, Sync(500 + hours, NEXT_SYNC.extracted_at + hours * HOUR))
        assert project.run(*FACTS).success

    assert _spend(warehouse, "fct_ad_performance", ACME, day) == 100
    assert _spend(warehouse, "fct_geo_performance", ACME, day) == 100


def test_a_day_whose_rows_are_all_gone_leaves_the_fact(project: DbtProject, warehouse: RawWarehouse) -> None:
    warehouse.execute("delete from raw_meta.ad_insights where tenant_id = %s and date_start = %s", ACME, ACME_DAYS[4])

    outcome = project.run(*FACTS)

    assert outcome.success, str(outcome)
    assert _spend(warehouse, "fct_ad_performance", ACME, ACME_DAYS[4]) is None
    assert _spend(warehouse, "fct_geo_performance", ACME, ACME_DAYS[4]) is None


def test_a_tenant_that_left_leaves_every_mart(project: DbtProject, warehouse: RawWarehouse) -> None:
    for table in ("raw_meta.ad_insights", "raw_google_ads.campaign_daily", "raw_google_ads.geographic_view"):
        warehouse.execute(f"delete from {table} where tenant_id = %s", ACME)

    outcome = project.run("build", "--select", "source:raw_meta+", "--exclude-resource-type", "unit_test")

    assert outcome.success, str(outcome)
    marts = (
        "fct_ad_performance",
        "fct_geo_performance",
        "agg_campaign_daily",
        "agg_creative_daily",
        "agg_parish_daily",
    )
    for mart in marts:
        tenants = {row[0] for row in warehouse.query(f"select distinct tenant_id::text from analytics.{mart}")}
        assert tenants
        assert ACME not in tenants, mart


def test_a_provider_that_is_switched_off_keeps_its_history_and_takes_no_part(
    project_copy: DbtProject, warehouse: RawWarehouse
) -> None:
    day = INITECH_DAYS[0]
    tiktok = _spend_of_initech(warehouse, "tiktok_ads", day)
    warehouse.execute("drop schema raw_tiktok_ads cascade")
    others = ["meta", "google_ads", "linkedin_ads", "ga4", "search_console"]

    outcome = project_copy.run("build", "--exclude-resource-type", "unit_test", variables={"enabled_providers": others})

    assert outcome.success, str(outcome)
    assert _spend_of_initech(warehouse, "tiktok_ads", day) == tiktok == 25


def _spend_of_initech(warehouse: RawWarehouse, platform: str, day: date) -> object:
    rows = warehouse.query(
        "select spend from analytics.fct_ad_performance where source_platform = %s and date_day = %s", platform, day
    )
    return rows[0][0]


@pytest.mark.parametrize(
    ("raw_table", "day_column", "fact"),
    [
        ("raw_ga4.daily_traffic", "date", "fct_web_traffic_daily"),
        ("raw_search_console.search_analytics", "date", "fct_search_performance_daily"),
    ],
)
def test_web_and_search_follow_their_raw_days_too(
    project: DbtProject, warehouse: RawWarehouse, raw_table: str, day_column: str, fact: str
) -> None:
    ((oldest, newest),) = warehouse.query(f"select min({day_column}), max({day_column}) from {raw_table}")
    warehouse.execute(f"delete from {raw_table} where {day_column} = %s", newest)
    changed = "update {} set {} = {} + 5, _airbyte_extracted_at = %s where {} = %s"
    measure = "sessions" if "ga4" in raw_table else "clicks"
    warehouse.execute(changed.format(raw_table, measure, measure, day_column), NEXT_SYNC.extracted_at, oldest)

    outcome = project.run(*WEB)

    assert outcome.success, str(outcome)
    facts = warehouse.query(f"select date_day, sum({measure})::int from analytics.{fact} group by 1 order by 1")
    raw = warehouse.query(f"select {day_column}, sum({measure})::int from {raw_table} group by 1 order by 1")
    assert facts == raw
    assert newest not in {row[0] for row in facts}
