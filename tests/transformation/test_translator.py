"""What people see of dbt's nodes in Dagster: keys, owners, groups, freshness, links, checks."""

from __future__ import annotations

from datetime import timedelta

import dagster as dg
import pytest

from adinsights_orchestration.environments import Environment
from adinsights_orchestration.errors import ConfigurationError
from adinsights_orchestration.freshness.sla import load_sla
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.transformation.assets import POOL, build_dbt_assets
from adinsights_orchestration.transformation.project import Project
from adinsights_orchestration.transformation.translator import AdinsightsDbtTranslator, freshness_policy

FCT = dg.AssetKey(["marts", "fct_spend"])
STG = dg.AssetKey(["staging", "stg_meta__ad_insights"])


@pytest.fixture(scope="module")
def assets() -> dict[str, dg.AssetsDefinition]:
    """The definition, made once."""
    return {}


@pytest.fixture
def dbt(project: Project, assets: dict[str, dg.AssetsDefinition]) -> dg.AssetsDefinition:
    """The fixture project's assets; nothing is connected to."""
    if not assets:
        settings = Settings()
        store = OpsStore(settings.ops_store)
        assets["dbt"] = build_dbt_assets(settings, store, project, AdinsightsDbtTranslator(settings, project))
    return assets["dbt"]


def _spec(dbt: dg.AssetsDefinition, key: dg.AssetKey) -> dg.AssetSpec:
    return dbt.get_asset_spec(key)


def test_every_node_is_an_asset_under_its_layer(dbt: dg.AssetsDefinition) -> None:
    assert {key.to_user_string() for key in dbt.keys} == {
        *("seeds/regions", "snapshots/ads_history", "staging/stg_meta__ads", "staging/stg_meta__ad_insights"),
        *("staging/stg_google_ads__campaign_daily", "marts/fct_spend", "marts/agg_region_spend", "marts/dim_ads"),
    }


def test_the_raw_tables_of_a_provider_are_its_one_asset(dbt: dg.AssetsDefinition) -> None:
    for model in ("stg_meta__ads", "stg_meta__ad_insights"):
        spec = _spec(dbt, dg.AssetKey(["staging", model]))
        assert [dep.asset_key for dep in spec.deps] == [dg.AssetKey(["airbyte", "meta"])]


def test_every_asset_says_whose_it_is_what_it_is_and_where_to_read_on(dbt: dg.AssetsDefinition) -> None:
    for spec in dbt.specs:
        assert spec.owners
        assert {"dbt", "postgres"} <= spec.kinds
        assert spec.group_name not in (None, "default")
        assert "**When it is late:**" in (spec.description or "")
        assert str(spec.metadata["runbook"].value).startswith(Settings().runbook_url + "#dbt-")


def test_owners_and_group_are_the_project_s_own(dbt: dg.AssetsDefinition) -> None:
    spec = _spec(dbt, FCT)
    assert spec.owners == ["data-eng@example.com", "marketing-ops@example.com"]
    assert spec.group_name == "facts"
    assert _spec(dbt, dg.AssetKey(["seeds", "regions"])).group_name == "reference"


def test_the_description_names_the_dashboards_that_go_stale(dbt: dg.AssetsDefinition) -> None:
    assert "older numbers: Spend." in (_spec(dbt, STG).description or "")
    assert "no dashboard shows it" in (_spec(dbt, dg.AssetKey(["marts", "dim_ads"])).description or "")


def test_a_model_may_say_itself_what_breaks_when_it_is_late(dbt: dg.AssetsDefinition) -> None:
    assert "The spend dashboard shows an old day." in (_spec(dbt, FCT).description or "")


def test_no_sql_is_in_the_description(dbt: dg.AssetsDefinition) -> None:
    assert all("select" not in (spec.description or "") for spec in dbt.specs)


def test_a_node_of_one_provider_is_tagged_with_it_and_a_shared_one_is_not(dbt: dg.AssetsDefinition) -> None:
    assert _spec(dbt, STG).tags["adinsights/provider"] == "meta"
    assert _spec(dbt, dg.AssetKey(["snapshots", "ads_history"])).tags["adinsights/provider"] == "meta"
    assert "adinsights/provider" not in _spec(dbt, FCT).tags


def test_freshness_comes_from_the_sla_table(dbt: dg.AssetsDefinition) -> None:
    expected = dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=36), warn_window=timedelta(hours=24))
    assert _spec(dbt, FCT).freshness_policy == expected
    assert _spec(dbt, STG).freshness_policy is None


@pytest.mark.parametrize("name", ["dbt_age", "stale_tenants"])
def test_a_name_that_is_no_time_in_the_sla_table_is_refused_with_the_node(name: str) -> None:
    props = {"unique_id": "model.adinsights.fct_spend", "config": {"meta": {"dagster": {"freshness": name}}}}
    with pytest.raises(ConfigurationError, match=r"model\.adinsights\.fct_spend: .*freshness"):
        freshness_policy(props, load_sla(Environment.PRODUCTION))


def test_every_data_test_is_a_check_and_none_is_on_a_provider_s_asset(
    dbt: dg.AssetsDefinition, project: Project
) -> None:
    checks = {(spec.asset_key.to_user_string(), spec.name) for spec in dbt.check_specs}
    assert {name for _, name in checks} == {props["name"] for props in project.tests.values()}
    assert {key for key, _ in checks} <= {key.to_user_string() for key in dbt.keys}
    assert ("staging/stg_meta__ad_insights", "source_not_null_raw_meta_ad_insights_ad_id") in checks


def test_a_test_that_only_warns_does_not_block(dbt: dg.AssetsDefinition) -> None:
    blocking = {spec.name: spec.blocking for spec in dbt.check_specs}
    assert blocking["not_null_fct_spend_entity_id"]
    assert not blocking["not_null_fct_spend_spend"]


def test_all_nodes_are_one_step_in_the_pool_that_keeps_builds_apart(dbt: dg.AssetsDefinition) -> None:
    assert dbt.op.pool == POOL
    assert dbt.can_subset
