"""What a build of everything makes of the baseline: relations, their columns, and figures worked out by hand."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

from tests.dbt_project.conftest import Baseline
from tests.dbt_project.raw_data import ACME, ACME_DAYS, GLOBEX, GLOBEX_DAYS, INITECH
from tests.dbt_project.raw_tables import RawWarehouse


def test_the_first_build_passes_every_test_and_unit_test(baseline: Baseline) -> None:
    statuses = baseline.first_build.statuses
    kinds = {kind: [s for node, s in statuses.items() if node.startswith(kind)] for kind in ("model", "test", "unit")}

    assert set(kinds["model"]) == {"success"}
    assert set(kinds["test"]) == {"pass"}
    assert set(kinds["unit"]) == {"pass"}
    assert len(kinds["unit"]) >= 20


def test_the_documented_columns_are_the_columns_that_are_built(baseline: Baseline, warehouse: RawWarehouse) -> None:
    kinds = ("model", "seed", "snapshot")
    nodes = [node for node in baseline.project.manifest()["nodes"].values() if node["resource_type"] in kinds]
    rows = warehouse.query("select table_schema, table_name, column_name from information_schema.columns")
    built: dict[tuple[object, object], set[object]] = {}
    for schema, table, column in rows:
        built.setdefault((schema, table), set()).add(column)

    assert len(nodes) >= 40
    for node in nodes:
        assert set(node["columns"]) == built[node["schema"], node["alias"]], node["name"]


def test_the_sources_columns_are_the_columns_of_the_raw_tables(baseline: Baseline, warehouse: RawWarehouse) -> None:
    rows = warehouse.query("select table_schema || '.' || table_name, column_name from information_schema.columns")
    for source in baseline.project.manifest()["sources"].values():
        name = f"{source['schema']}.{source['identifier']}"
        assert set(source["columns"]) == {column for table, column in rows if table == name}, name


def test_every_layer_has_a_schema_of_its_own_and_marts_the_plain_one(warehouse: RawWarehouse) -> None:
    rows = warehouse.query(
        "select distinct table_schema from information_schema.tables"
        " where table_schema not in ('information_schema', 'pg_catalog') and table_schema not like %s",
        "raw_%",
    )

    layers = ("staging", "intermediate", "snapshots", "reference")
    assert {row[0] for row in rows} == {"analytics", *(f"analytics_{layer}" for layer in layers)}


def test_a_vanished_row_of_a_day_that_was_read_again_does_not_count(warehouse: RawWarehouse) -> None:
    # Seven regions of 100 + day on the days read once; six of 200 + day, without Florida, on the last three.
    rows = warehouse.query(
        "select date_day, spend from analytics.fct_ad_performance"
        " where tenant_id = %s and ad_account_id = '1001' and ad_id = 'm-a1' order by date_day",
        ACME,
    )

    read_once, read_again = ACME_DAYS[:-3], ACME_DAYS[-3:]
    expected = [(day, Decimal(7 * (100 + day.day))) for day in read_once]
    assert rows == expected + [(day, Decimal(6 * (200 + day.day))) for day in read_again]


def test_two_tenants_with_the_same_account_are_kept_apart(warehouse: RawWarehouse) -> None:
    rows = warehouse.query(
        "select tenant_id::text, currency, count(*), min(date_day) from analytics.agg_campaign_daily"
        " where source_platform = 'meta' and campaign_id = 'm-c1' group by 1, 2"
    )

    assert set(rows) == {(ACME, "JMD", 10, ACME_DAYS[0]), (GLOBEX, "GBP", 10, GLOBEX_DAYS[0])}


def test_every_platform_is_in_the_fact_in_its_accounts_currency(warehouse: RawWarehouse) -> None:
    rows = warehouse.query(
        "select tenant_id::text, source_platform, ad_account_id, currency, sum(spend)::int"
        " from analytics.fct_ad_performance where ad_account_id <> '1001' group by 1, 2, 3, 4"
    )

    assert set(rows) == {
        (ACME, "google_ads", "1234567890", "JMD", 303),
        (INITECH, "google_ads", "5550001111", "USD", 151),
        (GLOBEX, "linkedin_ads", "77", "GBP", 125),
        (INITECH, "tiktok_ads", "900", "USD", 125),
    }


def test_a_platform_without_a_level_has_none_there_and_never_null(warehouse: RawWarehouse) -> None:
    rows = warehouse.query("select distinct source_platform, adset_id, ad_id from analytics.fct_ad_performance")

    assert {(platform, adset == "(none)", ad == "(none)") for platform, adset, ad in rows} == {
        ("meta", False, False),
        ("tiktok_ads", False, False),
        ("linkedin_ads", True, False),
        ("google_ads", True, True),
    }


def test_a_campaign_that_only_reports_know_has_its_reported_name(warehouse: RawWarehouse) -> None:
    rows = warehouse.query(
        "select campaign_name, status, is_inferred from analytics.dim_campaign where campaign_id = 'm-c9'"
    )

    assert rows == [("Brand new", "unknown", True)]


def test_a_day_without_impressions_has_no_ratios(warehouse: RawWarehouse) -> None:
    rows = warehouse.query(
        "select impressions, clicks, spend, ctr, cpc, cpm, conversion_rate, cpa, roas"
        " from analytics.agg_campaign_daily where campaign_id = 'm-c9'"
    )

    assert rows == [(0, 0, 0, None, None, None, None, None, None)]


def test_creatives_are_those_of_platforms_that_report_ads(warehouse: RawWarehouse) -> None:
    rows = warehouse.query(
        "select distinct source_platform, ad_name, creative_id, thumbnail_url from analytics.agg_creative_daily"
        " where ad_id in ('m-a1', '7711', 't-a1')"
    )

    assert set(rows) == {
        ("meta", "Ad m-a1", "cr-1", "https://t/1"),
        ("linkedin_ads", "White paper", "7711", None),
        ("tiktok_ads", "Clip", None, None),
    }
    assert not warehouse.query("select 1 from analytics.agg_creative_daily where source_platform = 'google_ads'")


def test_parishes_are_found_under_every_spelling_and_the_rest_is_unmapped(warehouse: RawWarehouse) -> None:
    day = ACME_DAYS[0]
    rows = warehouse.query(
        "select source_platform, parish, parish_iso_code, sum(spend)::int, sum(clicks)"
        " from analytics.agg_parish_daily where tenant_id = %s and date_day = %s group by 1, 2, 3",
        ACME,
        day,
    )

    # Two ads and 111 a row: Saint Andrew under three spellings; Florida and a missing region are no parish.
    assert set(rows) == {
        ("meta", "Kingston", "JM-01", 222, 40),
        ("meta", "Saint Andrew", "JM-02", 666, 120),
        ("meta", "Saint Ann", "JM-06", 222, 40),
        ("meta", "unmapped", None, 444, 80),
        ("google_ads", "Kingston", "JM-01", 10, 3),
        ("google_ads", "Saint Andrew", "JM-02", 10, 3),
        ("google_ads", "unmapped", None, 10, 3),
    }


def test_every_alias_of_the_seed_finds_its_parish(warehouse: RawWarehouse) -> None:
    rows = warehouse.query(
        "select count(*), count(distinct parish_key), count(distinct parish)"
        " from analytics_intermediate.int_parish_lookup"
    )
    ((names, keys, parishes),) = rows

    assert names == keys
    assert parishes == 14


def test_pacing_is_as_of_the_accounts_own_newest_day(warehouse: RawWarehouse) -> None:
    rows = warehouse.query(
        "select tenant_id::text, campaign_id, as_of_date, daily_budget::int, lifetime_budget::int, budget_source"
        " from analytics.agg_campaign_pacing where campaign_id in ('m-c1', 'm-c2', '771', 't-c1')"
    )

    newest = {GLOBEX: GLOBEX_DAYS[-1], ACME: ACME_DAYS[-1]}
    meta = {(tenant, "m-c1", newest[tenant], 5000, None, "campaign") for tenant in (ACME, GLOBEX)}
    on_adsets = {(tenant, "m-c2", newest[tenant], 1200, None, "adsets") for tenant in (ACME, GLOBEX)}
    others = {
        (GLOBEX, "771", GLOBEX_DAYS[-1], 15, None, "campaign"),
        (INITECH, "t-c1", date(2025, 3, 18), None, 600, "campaign"),
    }
    assert set(rows) == meta | on_adsets | others


def test_sessions_without_a_campaign_are_counted_once_under_one_name(warehouse: RawWarehouse) -> None:
    rows = warehouse.query(
        "select date_day, session_campaign, sessions, engaged_sessions, engagement_rate"
        " from analytics.fct_web_traffic_daily order by date_day"
    )

    assert rows == [(day, "(not set)", 30, 18, Decimal("0.6")) for day in ACME_DAYS]


def test_withheld_queries_and_positions_without_impressions_are_kept(warehouse: RawWarehouse) -> None:
    rows = warehouse.query(
        "select query, country, device, sum(clicks)::int, max(ctr), max(average_position)"
        " from analytics.fct_search_performance_daily group by 1, 2, 3"
    )

    assert set(rows) == {
        ("globex", "gbr", "mobile", 30, Decimal("0.05"), Decimal("1.5")),
        ("(not set)", "gbr", "desktop", 10, None, None),
    }


def test_a_second_build_of_unchanged_data_changes_no_figure(baseline: Baseline, warehouse: RawWarehouse) -> None:
    tables = ("fct_ad_performance", "fct_geo_performance", "fct_web_traffic_daily", "fct_search_performance_daily")
    figures = "select md5(string_agg((to_jsonb(t) - 'built_at')::text, '' order by (to_jsonb(t) - 'built_at')::text))"
    before = [warehouse.query(f"{figures} from analytics.{table} as t") for table in tables]
    versions = warehouse.query("select count(*) from analytics_snapshots.snap_campaigns")

    outcome = baseline.project.run("build", "--exclude-resource-type", "unit_test", "test")

    assert outcome.success, str(outcome)
    assert [warehouse.query(f"{figures} from analytics.{table} as t") for table in tables] == before
    assert warehouse.query("select count(*) from analytics_snapshots.snap_campaigns") == versions
