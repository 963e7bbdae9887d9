"""Providers are switched on and off by one variable, and the rest builds."""

from __future__ import annotations

import pytest

from tests.dbt_project.conftest import Baseline
from tests.dbt_project.project import DbtProject
from tests.dbt_project.raw_data import PROVIDERS, load_baseline


# Between the two, every provider is on once and off once.
@pytest.mark.parametrize("enabled", [PROVIDERS[::2], PROVIDERS[1::2]])
def test_staging_is_that_of_the_enabled_providers_and_the_marts_are_all_there(
    project_copy: DbtProject, enabled: tuple[str, ...]
) -> None:
    outcome = project_copy.run("ls --resource-type model", variables={"enabled_providers": enabled})

    assert outcome.success, outcome.error
    listed = [str(name).split(".") for name in outcome.listed]
    assert {name[2] for name in listed if name[1] == "staging"} == set(enabled)
    assert len([name for name in listed if name[1] == "marts"]) == 12


@pytest.mark.parametrize("enabled", [pytest.param([], marks=pytest.mark.soak), ["google_ads", "ga4"]])
def test_a_warehouse_with_the_tables_of_some_providers_only_builds(
    project_copy: DbtProject, baseline: Baseline, enabled: list[str]
) -> None:
    warehouse = baseline.databases.create_empty()
    load_baseline(warehouse, enabled)

    outcome = project_copy.run("build", variables={"enabled_providers": enabled})

    assert outcome.success, str(outcome)
    platforms = {row[0] for row in warehouse.query("select distinct source_platform from analytics.fct_ad_performance")}
    assert platforms == set(enabled) - {"ga4"}
    sessions = warehouse.query("select count(*) from analytics.fct_web_traffic_daily")
    assert sessions == [(10 if "ga4" in enabled else 0,)]


def test_a_misspelt_provider_is_an_error_and_not_a_missing_one(project_copy: DbtProject) -> None:
    outcome = project_copy.run("parse", variables={"enabled_providers": ["meta", "google"]})

    assert not outcome.success
    assert "enabled_providers names the unknown provider 'google'. Known: meta, google_ads" in outcome.error


def test_a_providers_data_concerns_only_what_is_downstream_of_it(project: DbtProject) -> None:
    outcome = project.run("ls --resource-type model --select source:raw_ga4+")

    assert {str(name).split(".")[-1] for name in outcome.listed} == {
        "stg_ga4__daily_traffic",
        "int_web_traffic_slices",
        "fct_web_traffic_daily",
    }
