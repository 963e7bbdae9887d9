"""The four known ways in which such a project goes wrong, each shown on a deliberately wrong copy.

For every one: the project as it is passes, and the wrong version is caught by the project's own guard or dbt tests.
Where a guard catches it, a copy without the guard shows the damage, so that the guard is known to guard something.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.dbt_project.project import DbtProject, Outcome
from tests.dbt_project.raw_data import ACME_DAYS, GLOBEX, GLOBEX_DAYS, SECOND_SYNC, meta_insight
from tests.dbt_project.raw_tables import RawWarehouse, Sync

# ------------------------------------------------------------------------------- 1. a seed that overwrites a raw table

GUARD_AT_PARSE = "{%- if schema.startswith('raw_') -%}"
GUARD_AT_START = "    {%- if execute -%}\n"


def _put_a_seed_over_a_raw_table(project: DbtProject) -> None:
    """The usual shortcut: custom schemas taken as they are, and a seed named like the table that it stands in for."""
    project.patch("macros/schemas.sql", "target.schema ~ '_' ~ custom_schema_name | trim", "custom_schema_name | trim")
    (project.folder / "seeds" / "campaigns.csv").write_text("id,name\nm-c1,Seeded\n")
    (project.folder / "seeds" / "_campaigns.yml").write_text(
        "seeds: [{name: campaigns, description: A stand-in., config: {schema: raw_meta}}]"
    )


def _remove_guard(project: DbtProject, guard: str, instead: str) -> None:
    project.patch("macros/schemas.sql", guard, instead)


def test_building_everything_from_nothing_leaves_the_raw_tables_as_they_were(
    project: DbtProject, raw_warehouse: RawWarehouse
) -> None:
    before = raw_warehouse.fingerprint()

    outcome = project.run("build", "--full-refresh", "--exclude-resource-type", "unit_test", "test")

    assert outcome.success, str(outcome)
    assert raw_warehouse.fingerprint() == before


def test_a_seed_that_resolves_to_a_raw_schema_is_refused_when_the_project_is_parsed(
    project_copy: DbtProject, warehouse: RawWarehouse
) -> None:
    before = warehouse.fingerprint()
    _put_a_seed_over_a_raw_table(project_copy)

    outcome = project_copy.run("seed")

    assert not outcome.success
    assert "'campaigns' would be built in 'raw_meta', and raw_* schemas belong to Airbyte" in outcome.error
    assert warehouse.fingerprint() == before


def test_a_project_that_lost_the_guard_at_parsing_is_still_stopped_before_its_first_statement(
    project_copy: DbtProject, warehouse: RawWarehouse
) -> None:
    before = warehouse.fingerprint()
    _put_a_seed_over_a_raw_table(project_copy)
    _remove_guard(project_copy, GUARD_AT_PARSE, "{%- if false -%}")

    outcome = project_copy.run("build", "--full-refresh")

    assert not outcome.success
    assert "resolves to 'raw_meta.campaigns', which is a raw schema: nothing was run" in _all_messages(outcome)
    assert outcome.passed == set()
    assert warehouse.fingerprint() == before


@pytest.mark.soak  # shows that the guards' tests can fail
def test_without_both_guards_the_seed_does_destroy_the_raw_table(
    project_copy: DbtProject, warehouse: RawWarehouse
) -> None:
    before = warehouse.fingerprint()
    _put_a_seed_over_a_raw_table(project_copy)
    _remove_guard(project_copy, GUARD_AT_PARSE, "{%- if false -%}")
    _remove_guard(project_copy, GUARD_AT_START, "    {%- if false -%}\n")

    project_copy.run("seed", "--select", "campaigns")

    changed = {table for table, digest in warehouse.fingerprint().items() if digest != before[table]}
    assert changed == {"raw_meta.campaigns"}
    assert warehouse.query("select id, name from raw_meta.campaigns") == [("m-c1", "Seeded")]


def test_a_schema_prefix_among_the_raw_schemas_is_refused(project: DbtProject) -> None:
    environment = {**project.environment, "ADINSIGHTS_DBT__SCHEMA": "raw_meta"}

    outcome = DbtProject(project.folder, environment, project.target.parent / "raw_prefix").run("parse")

    assert not outcome.success
    assert "raw_* schemas belong to Airbyte" in outcome.error


# -------------------------------------------------------------------- 2. a lookup that fans a row out and multiplies it

PARISHES = ("build", "--select", "int_parish_lookup", "agg_parish_daily", "--exclude-resource-type", "unit_test")


def _let_the_lookup_fan_out(project: DbtProject) -> None:
    project.patch("models/intermediate/int_parish_lookup.sql", "select distinct\n", "select\n")


def test_the_parish_lookup_passes_its_tests(project: DbtProject, warehouse: RawWarehouse) -> None:
    outcome = project.run(*PARISHES)

    assert outcome.success, str(outcome)
    assert {"int_parish_lookup__grain_is_unique", "assert_parish_spend_equals_staged_geo_spend"} <= outcome.passed


def test_a_lookup_with_two_rows_for_a_name_is_caught_before_anything_reads_it(
    project_copy: DbtProject, warehouse: RawWarehouse
) -> None:
    _let_the_lookup_fan_out(project_copy)

    outcome = project_copy.run(*PARISHES)

    assert "int_parish_lookup__grain_is_unique" in outcome.failed
    assert "agg_parish_daily" in outcome.named("skipped")


def test_even_an_untested_lookup_is_caught_by_the_spend_that_it_multiplies(
    project_copy: DbtProject, warehouse: RawWarehouse
) -> None:
    spend_before = warehouse.query("select sum(spend) from analytics.agg_parish_daily")
    _let_the_lookup_fan_out(project_copy)

    outcome = project_copy.run(*PARISHES, "--exclude", "int_parish_lookup__grain_is_unique")

    assert warehouse.query("select sum(spend) from analytics.agg_parish_daily") > spend_before
    assert outcome.failed == {"assert_parish_spend_equals_staged_geo_spend", "agg_parish_daily__keeps_totals"}


# ----------------------------------------------------------- 3. an incremental filter on the newest day of all tenants

FACT = ("build", "--select", "fct_ad_performance", "--exclude-resource-type", "unit_test")
OPEN_CONDITIONS = (
    "        built.date_day is null\n"
    "        or reported.extracted_at > built.extracted_at\n"
    "        or reported.extracted_at >= watermark.extracted_at - interval"
    " '{{ var(\"commit_lag_minutes\") }} minutes'\n"
    '        or reported.date_day >= watermark.newest_day - {{ var("lookback_days") }}\n'
)
NEWEST_DAY_OF_ALL = '        reported.date_day >= (select max(date_day) from {{ this }}) - {{ var("lookback_days") }}\n'
# Read weeks before any build of these tests, so that the reconciliation tests judge what it brought.
LATE_SYNC = Sync(301, SECOND_SYNC.extracted_at + timedelta(days=1))
LATE_DAY = GLOBEX_DAYS[-1] + timedelta(days=1)


def _bring_late_rows(warehouse: RawWarehouse) -> None:
    """Globex's next day, and its oldest day corrected; both are older than every day that Acme's lookback reaches."""
    assert max(LATE_DAY, GLOBEX_DAYS[0]) < ACME_DAYS[-1] - timedelta(days=3)
    corrected = meta_insight(GLOBEX, "1001", GLOBEX_DAYS[0], region="Greater London", spend=9000)
    next_day = meta_insight(GLOBEX, "1001", LATE_DAY, region="Greater London", spend=70)
    warehouse.upsert("raw_meta.ad_insights", [corrected, next_day], LATE_SYNC)


def _spend_of_late_rows(warehouse: RawWarehouse) -> dict[object, object]:
    rows = warehouse.query(
        "select date_day, spend from analytics.fct_ad_performance"
        " where tenant_id = %s and source_platform = 'meta' and date_day in (%s, %s)",
        GLOBEX,
        GLOBEX_DAYS[0],
        LATE_DAY,
    )
    return {row[0]: row[1] for row in rows}


def test_late_rows_of_a_tenant_behind_the_others_are_taken(project: DbtProject, warehouse: RawWarehouse) -> None:
    _bring_late_rows(warehouse)

    outcome = project.run(*FACT)

    assert outcome.success, str(outcome)
    assert _spend_of_late_rows(warehouse) == {GLOBEX_DAYS[0]: 9000, LATE_DAY: 70}


def test_a_filter_on_the_newest_day_of_all_tenants_is_caught_by_the_spend_that_it_loses(
    project_copy: DbtProject, warehouse: RawWarehouse
) -> None:
    spend_before = _spend_of_late_rows(warehouse)
    project_copy.patch("macros/incremental_slices.sql", OPEN_CONDITIONS, NEWEST_DAY_OF_ALL)
    _bring_late_rows(warehouse)

    outcome = project_copy.run(*FACT)

    assert _spend_of_late_rows(warehouse) == spend_before
    assert outcome.failed == {"assert_fact_spend_equals_staged_spend"}


def test_a_filter_on_the_newest_day_of_all_tenants_fails_the_unit_test_of_late_rows(
    project_copy: DbtProject, warehouse: RawWarehouse
) -> None:
    project_copy.patch("macros/incremental_slices.sql", OPEN_CONDITIONS, NEWEST_DAY_OF_ALL)

    outcome = project_copy.run("test", "--select", "late_rows_are_measured_against_their_own_account")

    assert not outcome.success
    assert "actual differs from expected" in _all_messages(outcome)


# --------------------------------------------------- 4. a per-tenant run that rebuilds a table shared by all tenants

CAMPAIGNS = ("build", "--select", "agg_campaign_daily", "--exclude-resource-type", "unit_test")
ONE_TENANT = {"tenant_id": GLOBEX}


def _build_per_tenant(project: DbtProject) -> None:
    project.patch(
        "models/marts/aggregates/agg_campaign_daily.sql",
        "    from {{ ref('fct_ad_performance') }}\n",
        "    from {{ ref('fct_ad_performance') }}\n    where tenant_id = '{{ var('tenant_id', none) }}'\n",
    )


def _tenants(warehouse: RawWarehouse) -> int:
    return len(warehouse.query("select distinct tenant_id from analytics.agg_campaign_daily"))


def test_a_run_after_one_tenants_sync_keeps_every_tenant(project: DbtProject, warehouse: RawWarehouse) -> None:
    _bring_late_rows(warehouse)

    outcome = project.run("build", "--select", "source:raw_meta+", "--exclude-resource-type", "unit_test")

    assert outcome.success, str(outcome)
    assert _tenants(warehouse) == 3


def test_a_run_for_one_tenant_is_refused_before_its_first_statement(
    project_copy: DbtProject, warehouse: RawWarehouse
) -> None:
    outcome = project_copy.run(*CAMPAIGNS, variables=ONE_TENANT)

    assert not outcome.success
    assert "There is no variable 'tenant_id'" in _all_messages(outcome)
    assert _tenants(warehouse) == 3


def test_a_table_rebuilt_for_one_tenant_is_caught_by_the_tenants_that_it_loses(
    project_copy: DbtProject, warehouse: RawWarehouse
) -> None:
    _build_per_tenant(project_copy)
    _remove_guard(project_copy, GUARD_AT_START, "    {%- if false -%}\n")

    outcome = project_copy.run(*CAMPAIGNS, variables=ONE_TENANT)

    assert _tenants(warehouse) == 1
    assert outcome.failed == {"agg_campaign_daily__keeps_totals"}


def _all_messages(outcome: Outcome) -> str:
    return "\n".join((outcome.error, *outcome.messages.values()))
