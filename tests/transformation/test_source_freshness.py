"""dbt's source freshness as checks: real verdicts on real tables, on assets that no sync and no build ever plans."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial

import dagster as dg
import pytest

from adinsights_orchestration.environments import Environment
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Driver, Settings
from adinsights_orchestration.tenants.model import Connection, Provider, Registry, Tenant
from adinsights_orchestration.tenants.store import NEVER_READ, write_snapshot, write_success
from adinsights_orchestration.transformation import source_freshness
from adinsights_orchestration.transformation.definitions import build_transformation
from tests.tenants.schedules import JAMAICA, connection, cron, tenant, utc
from tests.transformation.support import Warehouse

pytestmark = pytest.mark.usefixtures("warm_dbt")
META, GOOGLE = dg.AssetKey(["raw", "meta"]), dg.AssetKey(["raw", "google_ads"])


def test_every_verdict_of_dbt_is_a_check_result_with_the_age_in_words(
    settings: Settings, ops_store: OpsStore, warehouse: Warehouse
) -> None:
    warehouse.execute(
        "update raw_meta.ad_insights set _airbyte_extracted_at = now() - interval '3 hours';"
        "update raw_meta.ads set _airbyte_extracted_at = now() - interval '5 hours';"
        "drop schema raw_google_ads cascade"
    )
    job = build_transformation(settings, ops_store).resolve_job_def("dbt_source_freshness")
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(instance=instance)
    found = {(e.asset_key, e.check_name): e for e in result.get_asset_check_evaluations()}
    warned = found[META, "freshness_ad_insights"]
    assert (warned.passed, warned.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert warned.description is not None
    assert warned.description.startswith("The newest row is 3:00:")
    failed = found[META, "freshness_ads"]
    assert (failed.passed, failed.severity) == (False, dg.AssetCheckSeverity.ERROR)
    missing = found[GOOGLE, "freshness_campaign_daily"]
    assert (missing.passed, missing.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "does not exist" in (missing.description or "")
    assert len(found) == 3

    warehouse.execute("delete from raw_meta.ads; update raw_meta.ad_insights set _airbyte_extracted_at = now()")
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(instance=instance)
    found = {(e.asset_key, e.check_name): e for e in result.get_asset_check_evaluations()}
    assert found[META, "freshness_ad_insights"].passed
    empty = found[META, "freshness_ads"]
    assert (empty.severity, empty.description) == (dg.AssetCheckSeverity.WARN, "There is no row yet.")


def test_the_checks_stand_apart_from_the_providers_partitioned_assets_and_from_what_builds_plan(
    settings: Settings, ops_store: OpsStore
) -> None:
    defs = build_transformation(settings, ops_store)
    graph = defs.resolve_asset_graph()
    checked = {key.asset_key for key in graph.asset_check_keys if key.name.startswith("freshness_")}
    assert checked == {META, GOOGLE}
    for key in checked:
        assert not graph.get(key).is_executable
        assert graph.get(key).parent_keys == {dg.AssetKey(["airbyte", key.path[-1]])}
        assert graph.get(key).child_keys == set()
    for name in ("dbt_nightly", "dbt_refresh"):
        planned = defs.resolve_job_def(name).asset_layer.asset_graph.asset_check_keys
        assert not any(key.name.startswith("freshness_") for key in planned)


@pytest.mark.parametrize(
    ("hours", "passed", "severity"),
    [(5, True, None), (25.9, True, None), (27, False, "WARN"), (29, False, "ERROR")],
)
def test_where_connections_sync_once_a_night_a_table_may_be_a_day_older(
    settings: Settings, hours: float, passed: bool, severity: str | None
) -> None:
    """At 06:00 in staging the rows of 01:00 are five hours old, as they should be: dbt alone calls that an error."""
    spec = dg.AssetCheckSpec("freshness_ads", asset=META)
    limits = {"warn_after": {"count": 2, "period": "hour"}, "error_after": {"count": 4, "period": "hour"}}
    seconds = hours * 3600
    verdict = {"status": "error", "max_loaded_at": "2026-03-01", "max_loaded_at_time_ago_in_s": seconds}
    found = source_freshness._result(spec, verdict, limits, timedelta(days=1))
    assert found.passed is passed
    assert severity in (None, found.severity.name)
    assert not source_freshness._result(spec, verdict, limits, timedelta()).passed


LIMITS = {"warn_after": {"count": 2, "period": "hour"}, "error_after": {"count": 4, "period": "hour"}}
RESTING_AT_NIGHT = "0 6-22 * * *"
LAST_OF_THE_DAY = utc("2026-03-02T03:00:40")  # ten in the evening in Jamaica
OF_NOON = utc("2026-03-02T17:00:40")


def _registry(*connections: Connection, tenant: Tenant) -> Registry:
    return Registry((tenant,), connections, "test", LAST_OF_THE_DAY)


def _severity(registry: Registry, newest: datetime, age: timedelta) -> str:
    """What a table whose newest row is so old shows, in the words of dbt."""
    verdict = {"status": "?", "max_loaded_at": newest.isoformat(), "max_loaded_at_time_ago_in_s": age.total_seconds()}
    verdict["status"] = source_freshness._status(age, LIMITS)
    allowed = source_freshness._without_a_plan(registry, Provider.META, verdict, LIMITS)
    found = source_freshness._result(dg.AssetCheckSpec("freshness_ads", asset=META), verdict, LIMITS, allowed)
    return "pass" if found.passed else found.severity.name


@pytest.mark.parametrize(
    ("newest", "hours", "severity"),
    [
        (LAST_OF_THE_DAY, 2.1, "pass"),
        (LAST_OF_THE_DAY, 7.5, "pass"),
        (LAST_OF_THE_DAY, 9.9, "pass"),
        (LAST_OF_THE_DAY, 10.1, "WARN"),
        (LAST_OF_THE_DAY, 12.1, "ERROR"),
        (OF_NOON, 1.9, "pass"),
        (OF_NOON, 2.1, "WARN"),
        (OF_NOON, 4.1, "ERROR"),
    ],
)
def test_a_night_without_planned_syncs_makes_no_table_late_and_no_day_more_patient(
    newest: datetime, hours: float, severity: str
) -> None:
    acme = tenant(JAMAICA)
    one = connection(cron(RESTING_AT_NIGHT), tenant_id=acme.id)
    assert _severity(_registry(one, tenant=acme), newest, timedelta(hours=hours)) == severity


def test_only_the_providers_own_active_connections_say_when_its_next_sync_is() -> None:
    acme, half_a_night = tenant(JAMAICA), timedelta(hours=5)
    resting = connection(cron(RESTING_AT_NIGHT), tenant_id=acme.id)
    awake = partial(connection, cron("0 * * * *"), tenant_id=acme.id)
    of_another = awake(provider=Provider.GOOGLE_ADS)
    assert _severity(_registry(resting, of_another, tenant=acme), LAST_OF_THE_DAY, half_a_night) == "pass"
    assert _severity(_registry(resting, awake(is_active=False), tenant=acme), LAST_OF_THE_DAY, half_a_night) == "pass"
    assert _severity(_registry(resting, awake(), tenant=acme), LAST_OF_THE_DAY, half_a_night) == "ERROR"


def test_nothing_is_late_where_nothing_is_planned_and_the_limits_hold_where_no_registry_was_read() -> None:
    acme, a_week = tenant(JAMAICA), timedelta(days=7)
    paused = connection(cron(RESTING_AT_NIGHT), tenant_id=acme.id, is_active=False)
    assert _severity(_registry(paused, tenant=acme), LAST_OF_THE_DAY, a_week) == "pass"
    assert _severity(NEVER_READ, LAST_OF_THE_DAY, timedelta(hours=5)) == "ERROR"


def test_a_table_that_waits_for_a_sync_that_is_far_off_passes_whatever_dbt_says(
    settings: Settings, ops_store: OpsStore, warehouse: Warehouse
) -> None:
    acme = tenant(JAMAICA)
    registry = _registry(connection(cron("0 0 0 1 1 ? 2150"), tenant_id=acme.id), tenant=acme)
    with ops_store.begin() as session:
        snapshot = write_snapshot(session, "1", registry, None)
        write_success(session, snapshot, LAST_OF_THE_DAY)
    warehouse.execute("update raw_meta.ads set _airbyte_extracted_at = now() - interval '5 hours'")
    job = build_transformation(settings, ops_store).resolve_job_def("dbt_source_freshness")
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(instance=instance)
    found = {(e.asset_key, e.check_name): e for e in result.get_asset_check_evaluations()}
    assert found[META, "freshness_ads"].passed


def test_only_where_there_are_nights_is_a_day_allowed(settings: Settings, ops_store: OpsStore) -> None:
    def said(**changes: object) -> str | None:
        defs = build_transformation(settings.model_copy(update=changes), ops_store)
        return defs.resolve_asset_graph().get_check_spec(dg.AssetCheckKey(META, "freshness_ads")).description

    external = settings.ingestion.model_copy(update={"driver": Driver.EXTERNAL})
    assert "each a day later here" in (said(environment=Environment.STAGING) or "")
    assert "a day later" not in (said(environment=Environment.STAGING, ingestion=external) or "")
    assert "a day later" not in (said(environment=Environment.PRODUCTION) or "")


def test_the_description_of_a_check_states_its_limits(settings: Settings, ops_store: OpsStore) -> None:
    graph = build_transformation(settings, ops_store).resolve_asset_graph()
    spec = graph.get_check_spec(dg.AssetCheckKey(META, "freshness_ads"))
    assert spec.description == (
        "The newest row of raw_meta.ads warns after 2 hours, fails after 4 hours,"
        " counted from the next planned sync where that is further off."
    )
