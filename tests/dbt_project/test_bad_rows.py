"""Rows that no one ordered: without a tenant, in two currencies, or old. They are told of and break nothing else."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from tests.dbt_project.project import DbtProject
from tests.dbt_project.raw_data import ACME, ACME_DAYS, FIRST_SYNC, SECOND_SYNC, meta_insight
from tests.dbt_project.raw_tables import RAW_TABLES, RawWarehouse, Sync

NEXT_SYNC = Sync(701, SECOND_SYNC.extracted_at + timedelta(days=1))


def test_rows_without_a_valid_tenant_are_reported_and_every_tenant_is_still_built(
    project: DbtProject, warehouse: RawWarehouse
) -> None:
    rows = [meta_insight(tenant, "5", ACME_DAYS[0], region="X") for tenant in ("", "acme-jamaica", ACME[:-1])]
    warehouse.append("raw_meta.ad_insights", rows, NEXT_SYNC)
    warehouse.append("raw_meta.ad_insights", [meta_insight(ACME, "5", ACME_DAYS[0], region="X")], NEXT_SYNC)

    outcome = project.run("build", "--select", "source:raw_meta+", "--exclude-resource-type", "unit_test")

    assert outcome.failed == {"assert_raw_rows_name_a_tenant"}
    assert outcome.named("skipped") == set()
    found = warehouse.query(
        "select tenant_id::text, spend::int from analytics.fct_ad_performance where ad_account_id = '5'"
    )
    assert found == [(ACME, 100 + ACME_DAYS[0].day)]


def test_a_tenant_in_two_spellings_counts_once_whatever_the_provider(
    project: DbtProject, warehouse: RawWarehouse
) -> None:
    before = _figures(warehouse)
    _read_again_in_capitals(warehouse)

    outcome = project.run("build", "--select", "+fct_*", "int_*", "--exclude-resource-type", "unit_test")

    assert outcome.success, str(outcome)
    assert _figures(warehouse) == before


def _read_again_in_capitals(warehouse: RawWarehouse) -> None:
    """As after connections were set up again with their tenant's id in capitals: to Airbyte these are other rows."""
    # What the second sync did not find again does not count now, and is not to count again.
    condition = " where date_start >= %s and tenant_id = %s and _airbyte_meta ->> 'sync_id' = %s"
    warehouse.execute("delete from raw_meta.ad_insights" + condition, ACME_DAYS[-3], ACME, str(FIRST_SYNC.job_id))
    for name, table in RAW_TABLES.items():
        columns = {column: f'"{column}"' for column in table.all_columns}
        again = {**columns, "tenant_id": "upper(tenant_id)"}
        again["_airbyte_extracted_at"] = "_airbyte_extracted_at + interval '1 day'"
        again["_airbyte_meta"] = "jsonb_build_object('sync_id', 900)"
        warehouse.execute(f"update {name} set tenant_id = translate(tenant_id, '123', 'abc')")
        warehouse.execute(
            f"insert into {name} ({', '.join(columns.values())}) select {', '.join(again.values())} from {name}"
        )


_FIGURES = {
    "analytics.fct_ad_performance": "sum(spend)",
    "analytics.fct_geo_performance": "sum(spend)",
    "analytics.fct_web_traffic_daily": "sum(sessions)",
    "analytics.fct_search_performance_daily": "sum(clicks)",
    "analytics_intermediate.int_campaigns": "sum(daily_budget)",
    "analytics_intermediate.int_adsets": "sum(daily_budget)",
    "analytics_intermediate.int_ads": "count(creative_id)",
}


def _figures(warehouse: RawWarehouse) -> dict[str, list[tuple[object, ...]]]:
    """How many rows each relation has of each platform, and a figure of theirs."""
    query = "select source_platform, count(*), {} from {} group by 1 order by 1"
    return {relation: warehouse.query(query.format(figure, relation)) for relation, figure in _FIGURES.items()}


def test_a_connector_that_does_not_write_the_days_of_a_flight_leaves_them_to_the_moments(
    project: DbtProject, warehouse: RawWarehouse
) -> None:
    warehouse.execute("alter table raw_meta.campaigns drop column start_date cascade, drop column stop_date cascade")
    evening = datetime(2025, 3, 1, 3, tzinfo=UTC)  # of the day before, in Jamaica
    warehouse.execute("update raw_meta.campaigns set start_time = %s, stop_time = null", evening)

    outcome = project.run("run", "--select", "stg_meta__campaigns")

    assert outcome.success, str(outcome)
    flights = "select distinct start_date, stop_date from analytics_staging.stg_meta__campaigns"
    assert warehouse.query(flights) == [(date(2025, 2, 28), None)]


def test_an_account_in_two_currencies_fails_its_test(project: DbtProject, warehouse: RawWarehouse) -> None:
    row = meta_insight(ACME, "act_1001", ACME_DAYS[0], ad="m-a7", region="X", account_currency="USD")
    warehouse.append("raw_meta.ad_insights", [row], NEXT_SYNC)

    outcome = project.run("build", "--select", "fct_ad_performance", "--exclude-resource-type", "unit_test")

    assert outcome.failed == {"assert_one_currency_per_account"}


def test_source_freshness_warns_and_fails_at_each_providers_own_age(
    project: DbtProject, warehouse: RawWarehouse
) -> None:
    # Three hours: too old to be fine for Meta's and Google's reports, nothing yet for everyone else.
    now = datetime.now(UTC)
    for table in RAW_TABLES:
        warehouse.execute(f"update {table} set _airbyte_extracted_at = %s", now - timedelta(hours=3))
    warehouse.execute("update raw_ga4.daily_traffic set _airbyte_extracted_at = %s", now - timedelta(hours=30))

    outcome = project.run("source freshness")

    by_table = {unique_id.split(".", 2)[2]: status for unique_id, status in outcome.statuses.items()}
    hourly = {"raw_meta.ad_insights", "raw_google_ads.campaign_daily", "raw_google_ads.geographic_view"}
    assert {name for name, status in by_table.items() if status == "warn"} == hourly
    assert {name for name, status in by_table.items() if status == "error"} == {"raw_ga4.daily_traffic"}
    assert {name for name, status in by_table.items() if status == "pass"} == set(RAW_TABLES) - hourly - {
        "raw_ga4.daily_traffic"
    }
