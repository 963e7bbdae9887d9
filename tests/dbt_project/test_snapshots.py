"""History: a change makes a version, per tenant, and every day keeps the budget that it had."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from tests.dbt_project.project import DbtProject
from tests.dbt_project.raw_data import ACME, GLOBEX, SECOND_SYNC
from tests.dbt_project.raw_tables import RawWarehouse, Sync

CAMPAIGNS = ("build", "--select", "snap_campaigns", "dim_campaign", "agg_campaign_daily")
NEXT_SYNC = Sync(601, SECOND_SYNC.extracted_at + timedelta(days=1))


def _change_campaign(warehouse: RawWarehouse, tenant: str, **changes: object) -> None:
    campaign = {"tenant_id": tenant, "id": "m-c1", "account_id": "1001", "status": "ACTIVE"}
    content = {"name": "Summer", "objective": "OUTCOME_SALES", "daily_budget": 500000}
    warehouse.upsert("raw_meta.campaigns", [{**campaign, **content, **changes}], NEXT_SYNC)


def _versions(warehouse: RawWarehouse, tenant: str) -> list[tuple[object, ...]]:
    return warehouse.query(
        "select campaign_name, daily_budget::int, dbt_valid_to is null from analytics_snapshots.snap_campaigns"
        " where tenant_id = %s and campaign_id = 'm-c1' order by dbt_valid_from",
        tenant,
    )


def test_a_change_in_one_tenant_makes_a_version_there_and_nowhere_else(
    project: DbtProject, warehouse: RawWarehouse
) -> None:
    _change_campaign(warehouse, ACME, name="Late summer", daily_budget=700000)

    outcome = project.run(*CAMPAIGNS, "--exclude-resource-type", "unit_test")

    assert outcome.success, str(outcome)
    assert _versions(warehouse, ACME) == [("Summer", 5000, False), ("Late summer", 7000, True)]
    assert _versions(warehouse, GLOBEX) == [("Summer", 5000, True)]
    names = warehouse.query(
        "select tenant_id::text, campaign_name from analytics.dim_campaign where campaign_id = 'm-c1'"
    )
    assert set(names) == {(ACME, "Late summer"), (GLOBEX, "Summer")}


def test_a_value_that_changes_back_is_a_version_of_its_own_and_intervals_meet(
    project: DbtProject, warehouse: RawWarehouse
) -> None:
    for budget in (700000, 500000):
        _change_campaign(warehouse, ACME, daily_budget=budget)
        assert project.run("snapshot", "--select", "snap_campaigns").success

    assert _versions(warehouse, ACME) == [("Summer", 5000, False), ("Summer", 7000, False), ("Summer", 5000, True)]
    gaps = warehouse.query(
        "select dbt_valid_to = lead(dbt_valid_from) over (order by dbt_valid_from)"
        " from analytics_snapshots.snap_campaigns where tenant_id = %s and campaign_id = 'm-c1'",
        ACME,
    )
    assert gaps == [(True,), (True,), (None,)]


def test_a_new_extraction_or_a_newly_signed_thumbnail_is_no_change(
    project: DbtProject, warehouse: RawWarehouse
) -> None:
    count = "select count(*) from analytics_snapshots.snap_ads"
    before = warehouse.query(count)
    warehouse.execute(
        "update raw_meta.ads set _airbyte_extracted_at = %s, updated_time = %s,"
        ' creative = creative || \'{"thumbnail_url": "https://t/2"}\'',
        NEXT_SYNC.extracted_at,
        NEXT_SYNC.extracted_at,
    )

    assert project.run("build", "--select", "snap_ads", "dim_ad").success

    assert warehouse.query(count) == before
    thumbnails = warehouse.query("select distinct thumbnail_url from analytics.dim_ad where source_platform = 'meta'")
    assert set(thumbnails) == {("https://t/2",), (None,)}


def test_a_day_keeps_the_budget_that_it_had_and_is_not_doubled(project: DbtProject, warehouse: RawWarehouse) -> None:
    # As if the first version had been seen on the 12th and the change on the 15th.
    _change_campaign(warehouse, ACME, daily_budget=700000)
    assert project.run("snapshot", "--select", "snap_campaigns").success
    seen, changed = datetime(2025, 3, 12, 8, tzinfo=UTC), datetime(2025, 3, 15, 20, tzinfo=UTC)
    statement = "update analytics_snapshots.snap_campaigns set {} = %s where tenant_id = %s and campaign_id = 'm-c1'"
    for column, moment, condition in (
        ("dbt_valid_from", changed, " and dbt_valid_to is null"),
        ("dbt_valid_from", seen, " and dbt_valid_to is not null"),
        ("dbt_valid_to", changed, " and dbt_valid_to is not null"),
    ):
        warehouse.execute(statement.format(column) + condition, moment, ACME)

    outcome = project.run(*CAMPAIGNS, "--exclude-resource-type", "unit_test")

    assert outcome.success, str(outcome)
    budgets = warehouse.query(
        "select date_day, daily_budget_that_day::int from analytics.agg_campaign_daily"
        " where tenant_id = %s and campaign_id = 'm-c1' order by date_day",
        ACME,
    )
    assert budgets == [(date(2025, 3, day), 5000 if day < 15 else 7000) for day in range(11, 21)]


def test_overlapping_versions_fail_their_test(project: DbtProject, warehouse: RawWarehouse) -> None:
    warehouse.execute(
        "insert into analytics_snapshots.snap_campaigns select * from analytics_snapshots.snap_campaigns"
        " where tenant_id = %s and campaign_id = 'm-c1'",
        ACME,
    )

    outcome = project.run("test", "--select", "snap_campaigns")

    assert outcome.failed == {"snap_campaigns__versions_do_not_overlap"}


def test_a_cleared_connection_keeps_its_history_open(project: DbtProject, warehouse: RawWarehouse) -> None:
    warehouse.execute("delete from raw_meta.campaigns where tenant_id = %s", ACME)

    assert project.run("snapshot", "--select", "snap_campaigns").success

    assert _versions(warehouse, ACME) == [("Summer", 5000, True)]
