"""dbt in Dagster, for real: assets built in a run, checks evaluated, failures shown where they are and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa

from adinsights_orchestration.dagster_internals.events import Materialized, report_materializations
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import dbt_invocation
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.tenants.model import Provider
from adinsights_orchestration.transformation.definitions import build_transformation
from tests.quiet import Windows
from tests.transformation.support import Warehouse, in_another_process, variables
from tests.transformation.test_automation import Lab, requested_job

pytestmark = pytest.mark.usefixtures("warm_dbt")
FCT = dg.AssetKey(["marts", "fct_spend"])
STG = dg.AssetKey(["staging", "stg_meta__ad_insights"])
SOURCE_TEST = "source_not_null_raw_meta_ad_insights_ad_id"


def test_a_load_selects_everything_without_dbt_s_graph_library(settings: Settings) -> None:
    process = in_another_process(
        """
import sys
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.transformation.definitions import build_transformation
settings = Settings()
assert build_transformation(settings, OpsStore(settings.ops_store)).resolve_job_def("dbt_build")
print({"networkx", "dbt.graph.cli", "dbt.cli.main"} & sys.modules.keys())
""",
        **variables(settings),
    )
    out, errors = process.communicate()
    assert (process.returncode, out.decode().splitlines()[-1:]) == (0, ["set()"]), errors.decode()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance of this test's own."""
    with dg.DagsterInstance.ephemeral() as found:
        yield found


@pytest.fixture
def defs(settings: Settings, ops_store: OpsStore) -> dg.Definitions:
    """The transformation's definitions."""
    return build_transformation(settings, ops_store)


def _run(defs: dg.Definitions, instance: dg.DagsterInstance, job: str, **kwargs: Any) -> dg.ExecuteInProcessResult:
    return defs.resolve_job_def(job).execute_in_process(instance=instance, raise_on_error=False, **kwargs)


def _materialized(result: dg.ExecuteInProcessResult) -> set[str]:
    return {event.asset_key.path[-1] for event in result.get_asset_materialization_events() if event.asset_key}


def _checks(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {evaluation.check_name: evaluation.passed for evaluation in result.get_asset_check_evaluations()}


def _observed(result: dg.ExecuteInProcessResult) -> list[Any]:
    return list(result.get_asset_observation_events())


def _commands(store: OpsStore) -> list[str]:
    with store.begin() as connection:
        query = sa.select(dbt_invocation.c.command).order_by(dbt_invocation.c.started_at)
        return list(connection.execute(query).scalars())


def test_a_sync_s_rows_reach_the_marts_through_the_sensor_and_then_there_is_nothing_to_do(
    settings: Settings, ops_store: OpsStore, project: Any, instance: dg.DagsterInstance, warehouse: Warehouse
) -> None:
    lab = Lab(settings, ops_store, project, instance)
    for provider in (Provider.META, Provider.GOOGLE_ADS):
        lab.sync(provider)
    request = lab.look()
    assert request is not None
    result = requested_job(lab.defs, request).execute_in_process(instance=instance)
    assert result.success
    assert _materialized(result) == {uid.split(".")[2] for uid in project.nodes}
    frequent = {props["name"] for uid, props in project.tests.items() if uid not in project.nightly_tests}
    assert _checks(result) == dict.fromkeys(frequent, True)
    assert _observed(result) == []
    assert warehouse.rows("select sum(spend)::int from analytics.fct_spend") == [(22,)]
    assert lab.look() is None
    assert lab.skipped == "The marts hold everything that was synced."

    # Only Meta has news: only what is downstream of Meta is built, with the raw table's test.
    warehouse.add_meta_row("a3", 100)
    report_materializations(
        instance, dg.AssetKey(["airbyte", "meta"]), [Materialized("globex/two", lab.now, {"airbyte/job_id": 2})]
    )
    request = lab.look(timedelta(hours=1))
    assert request is not None
    result = requested_job(lab.defs, request).execute_in_process(instance=instance)
    assert result.success
    assert "stg_google_ads__campaign_daily" not in _materialized(result)
    assert SOURCE_TEST in _checks(result)
    assert warehouse.rows("select sum(spend)::int from analytics.fct_spend") == [(122,)]


def test_a_failed_test_fails_its_check_and_the_run_and_the_provider_s_rows_go_no_further(
    defs: dg.Definitions, instance: dg.DagsterInstance, warehouse: Warehouse
) -> None:
    warehouse.add_meta_row(None)
    result = _run(defs, instance, "dbt_nightly")
    assert not result.success
    checks = _checks(result)
    assert checks[SOURCE_TEST] is False
    assert {"stg_google_ads__campaign_daily", "dim_ads", "regions", "fct_spend"} <= _materialized(result)
    assert "stg_meta__ad_insights" not in _materialized(result)
    assert warehouse.rows("select distinct platform from analytics.fct_spend") == [("google_ads",)]
    [failure] = [event for event in result.all_events if event.is_step_failure]
    data = failure.step_failure_data
    assert data.user_failure_data is not None
    assert SOURCE_TEST in str(data.user_failure_data.description)
    failed: Any = data.user_failure_data.metadata["failed tests"].value
    assert [name.split(".")[2] for name in failed] == [SOURCE_TEST]
    evaluation = next(e for e in result.get_asset_check_evaluations() if e.check_name == SOURCE_TEST)
    assert evaluation.asset_key == STG
    assert evaluation.metadata["dagster_dbt/failed_row_count"].value == 1


def test_one_check_alone_can_be_evaluated_and_assets_can_be_built_without_checks(
    defs: dg.Definitions, instance: dg.DagsterInstance, warehouse: Warehouse, ops_store: OpsStore
) -> None:
    everything = defs.resolve_job_def("dbt_nightly")
    built = everything.get_subset(asset_selection={STG}, asset_check_selection=set())
    assert (result := built.execute_in_process(instance=instance)).success
    assert (_materialized(result), _checks(result)) == ({"stg_meta__ad_insights"}, {})
    assert "--indirect-selection empty" in _commands(ops_store)[0]

    check = dg.AssetCheckKey(STG, "not_null_stg_meta__ad_insights_ad_id")
    alone = everything.get_subset(asset_selection=set(), asset_check_selection={check})
    assert (result := alone.execute_in_process(instance=instance)).success
    assert (_materialized(result), _checks(result)) == (set(), {check.name: True})


def test_the_job_on_demand_takes_dbt_s_own_selection_and_paints_nothing_else_red(
    settings: Settings, instance: dg.DagsterInstance, warehouse: Warehouse, ops_store: OpsStore
) -> None:
    windows = Windows()
    defs = build_transformation(settings, ops_store, quietly=windows)
    assert _run(defs, instance, "dbt_nightly").success
    warehouse.add_meta_row(None)
    config = {"select": "stg_meta__ad_insights+ fct_spend", "exclude": "agg_region_spend", "full_refresh": True}
    result = _run(defs, instance, "dbt_build", run_config={"ops": {"build": {"config": config}}})
    assert not result.success
    _, command, again = _commands(ops_store)
    assert "--select stg_meta__ad_insights+ fct_spend --exclude agg_region_spend" in command
    assert "--full-refresh" in command
    assert windows.cover(rule="nightly_late", resource="nightly"), "no other build gets its turn meanwhile"
    assert not windows.cover(rule="dbt_failing", resource="dbt")
    assert (len(windows.opened), windows.open_now) == (1, 0), "the nightly build is no full refresh"
    assert '--vars \'{"enabled_providers": ["google_ads"]}\'' in again
    assert _checks(result)["not_null_stg_meta__ad_insights_ad_id"] is False
    assert _materialized(result) == {"stg_meta__ad_insights", "fct_spend"}
    assert not any(event.is_successful_output for event in result.all_events), "a stored result is a file for each run"
    # The failed check judges the newest materialization, so that the UI shows it.
    evaluation = next(e for e in result.get_asset_check_evaluations() if not e.passed)
    newest = instance.get_latest_materialization_event(STG)
    assert evaluation.target_materialization_data is not None
    assert newest is not None
    assert evaluation.target_materialization_data.run_id == result.run_id
    # Nothing else was planned in this run, so nothing else can show as failed by it.
    planned = [event for event in result.all_events if event.event_type_value == "ASSET_MATERIALIZATION_PLANNED"]
    assert planned == []
    assert instance.get_latest_materialization_event(FCT) is not None
