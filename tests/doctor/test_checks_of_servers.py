"""The doctor looks at real servers: what is well, what is not, and what to do about it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import psycopg
import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from adinsights_orchestration.doctor.model import Status
from adinsights_orchestration.local import seed
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import sync_job
from adinsights_orchestration.settings import Driver, WebhookSender
from adinsights_orchestration.tenants.store import load_registry
from tests.conftest import PostgresServer
from tests.doctor.conftest import NOW, Surroundings
from tests.ops_store.test_revisions import of_a_newer_release


@pytest.fixture
def knob(around: Surroundings) -> Iterator[Callable[[str, object], None]]:
    """Sets a fault of the local Airbyte for the test's time."""

    def turn(name: str, value: object) -> None:
        httpx.put(f"{around.service}/knobs/airbyte/{name}", json=value).raise_for_status()

    yield turn
    httpx.delete(f"{around.service}/knobs").raise_for_status()


def record_job(
    around: Surroundings, partition: str, job_id: int, *, started_by: str, ended_at: datetime, **other: str
) -> None:
    """Writes a finished sync into the ledger."""
    connection = load_registry(around.store).by_partition()[partition]
    row = {
        "job_id": job_id,
        "connection_id": connection.connection_id,
        "partition_key": partition,
        "provider": connection.provider.value,
        "tenant_id": connection.tenant_id,
        "job_type": "sync",
        "status": "succeeded",
        "started_by": started_by,
        "started_at": ended_at - timedelta(minutes=1),
        "ended_at": ended_at,
        "first_observed_at": ended_at,
        "observed_at": ended_at,
        **other,
    }
    with around.store.begin() as transaction:
        transaction.execute(sa.insert(sync_job), row)


def active_partition(around: Surroundings) -> str:
    return next(each.partition_key for each in load_registry(around.store).connections if each.standing == "active")


# ------------------------------------------------------------------------------------------------------- databases


def test_a_healthy_set_of_databases_is_well(around: Surroundings) -> None:
    names = ("ops store", "ops store apart", "backend database", "backend audit log", "warehouse")
    results = around.results(*names)
    assert {name: result.status for name, result in results.items()} == dict.fromkeys(names, Status.OK), results
    assert "3 tenants" in results["backend database"].detail


def test_an_unmigrated_ops_store_names_the_command(around: Surroundings, postgres_server: PostgresServer) -> None:
    empty = around.with_group("ops_store", dsn=SecretStr(postgres_server.create_database("empty")))
    result = empty.result("ops store")
    assert result.status is Status.FAIL
    assert "adinsights migrate" in result.next_step


def test_an_ops_store_of_a_newer_release_is_a_warning_that_names_it(
    around: Surroundings, postgres_server: PostgresServer
) -> None:
    newer = around.with_group("ops_store", dsn=SecretStr(postgres_server.create_database("newer")))
    store = OpsStore(newer.settings.ops_store)
    store.migrate()
    of_a_newer_release(store)
    store.dispose()
    result = newer.result("ops store")
    assert result.status is Status.WARN
    assert "newer (revision 9999, of release 9.9.0)" in result.detail


def test_an_ops_store_in_the_backends_database_is_refused(around: Surroundings) -> None:
    together = around.with_group("ops_store", dsn=SecretStr(around.backend_dsn))
    result = together.result("ops store apart")
    assert result.status is Status.FAIL
    assert "database apart" in result.next_step


@pytest.mark.parametrize(
    ("group", "check"),
    [("ops_store", "ops store"), ("backend", "backend database"), ("backend", "registry source")],
)
def test_an_address_that_is_none_is_named_without_its_password(around: Surroundings, group: str, check: str) -> None:
    result = around.with_group(group, dsn=SecretStr("canary-no-address")).result(check)
    assert result.status is Status.FAIL
    assert "canary" not in result.detail + result.next_step


def test_a_wrong_password_of_the_warehouse_is_said_and_not_shown(around: Surroundings) -> None:
    result = around.with_group("warehouse", password=SecretStr("canary-wrong-password")).result("warehouse")
    assert result.status is Status.FAIL
    assert "password authentication failed" in result.detail
    assert "canary" not in result.detail


def test_row_level_security_is_detected_for_a_role_that_it_binds(
    around: Surroundings, postgres_server: PostgresServer, backend_sql: Callable[..., None]
) -> None:
    role = f"reader_{uuid.uuid4().hex[:8]}"
    backend_sql(f"create role {role} login password 'reader-password'")
    backend_sql(f"grant usage on schema public to {role}")
    backend_sql(f"grant select on accounts_tenant, integrations_airbyteconnection, accounts_auditlog to {role}")
    address = around.backend_dsn.replace(
        f"{postgres_server.user}:{postgres_server.password}", f"{role}:reader-password"
    )
    bound = around.with_group("backend", dsn=SecretStr(address))
    results = bound.results("backend database", "backend audit log", "registry source")
    assert "row level security binds our role" in results["backend database"].detail
    assert results["registry source"].detail == "3 tenants, 8 connections"
    assert results["backend audit log"].status is Status.FAIL
    assert "insert" in results["backend audit log"].detail


def test_a_role_that_may_not_create_schemas_in_the_warehouse_gets_the_grant_to_run(
    around: Surroundings, postgres_server: PostgresServer
) -> None:
    role = f"modeller_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(around.warehouse_dsn) as connection:
        connection.execute(f"create role {role} login password 'modeller-password'")
    result = around.with_group("warehouse", user=role, password=SecretStr("modeller-password")).result("warehouse")
    assert result.status is Status.FAIL
    assert result.next_step == f"grant create on database {around.settings.warehouse.dbname} to {role};"


def test_providers_without_raw_data_are_named(around: Surroundings) -> None:
    result = around.result("warehouse sources")
    assert result.status is Status.WARN
    assert "raw_meta" in result.detail


def test_a_raw_schema_that_our_role_may_not_read_is_a_failure(
    around: Surroundings, postgres_server: PostgresServer
) -> None:
    role = f"blind_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(around.warehouse_dsn) as connection:
        connection.execute("create schema if not exists raw_ga4")
        connection.execute(f"create role {role} login password 'blind-password'")
    blind = around.with_group("warehouse", user=role, password=SecretStr("blind-password"))
    assert "may not read raw_ga4" in blind.result("warehouse sources").detail


# --------------------------------------------------------------------------------------------------------- airbyte


def test_a_healthy_airbyte_is_well(around: Surroundings) -> None:
    names = ("airbyte public api", "airbyte configuration api", "airbyte workspaces", "airbyte connections")
    results = around.results(*names, "airbyte clock")
    assert {result.status for result in results.values()} == {Status.OK}, results
    assert "8 connections" in results["airbyte public api"].detail


def test_refused_credentials_are_told_apart_from_a_server_that_is_down(around: Surroundings) -> None:
    refused = around.with_group("airbyte", client_secret=SecretStr("canary-wrong-secret")).result("airbyte public api")
    down = around.with_group("airbyte", public_api_url="http://127.0.0.1:9/api").result("airbyte public api")
    assert (refused.status, down.status) == (Status.FAIL, Status.FAIL)
    assert "cannot be reached" in down.detail
    assert "cannot be reached" not in refused.detail
    assert "canary" not in refused.detail + refused.next_step


def test_half_of_the_credentials_is_a_failure_before_any_request(around: Surroundings) -> None:
    result = around.with_group("airbyte", client_secret=None).result("airbyte public api")
    assert result.status is Status.FAIL
    assert "belong together" in result.detail


def test_a_proxys_page_instead_of_airbyte_is_recognised(
    around: Surroundings, knob: Callable[[str, object], None]
) -> None:
    knob("html_error", True)
    result = around.result("airbyte public api")
    assert result.status is Status.FAIL
    assert "html" in result.detail.lower()


def test_without_the_configuration_api_syncs_go_on_with_a_warning(
    around: Surroundings, knob: Callable[[str, object], None]
) -> None:
    knob("config_api_down", True)
    results = around.results("airbyte public api", "airbyte configuration api")
    assert results["airbyte public api"].status is Status.OK
    assert results["airbyte configuration api"].status is Status.WARN


def test_listings_that_repeat_a_page_do_not_keep_the_doctor_busy(
    around: Surroundings, knob: Callable[[str, object], None]
) -> None:
    knob("repeat_page", True)
    result = around.with_group("airbyte", page_size=4).result("airbyte public api")
    assert "4 connections" in result.detail


def test_a_workspace_that_is_hidden_from_us_is_named(around: Surroundings) -> None:
    hidden = uuid.uuid4()
    result = around.with_group("airbyte", workspace_ids=(hidden,)).result("airbyte workspaces")
    assert result.status is Status.FAIL
    assert str(hidden) in result.detail


def test_checks_that_need_airbyte_are_skipped_when_it_does_not_answer(around: Surroundings) -> None:
    down = around.with_group("airbyte", public_api_url="http://127.0.0.1:9/api")
    results = down.results("airbyte workspaces", "driver: airbyte schedules", "webhook senders")
    assert {result.status for result in results.values()} == {Status.SKIPPED}


# --------------------------------------------------------------------------------------------------------- drivers


def test_a_schedule_in_airbyte_beside_our_own_is_two_drivers(around: Surroundings) -> None:
    api = f"{around.service}/airbyte/api/public/v1"
    credentials = {"client_id": seed.AIRBYTE_CLIENT_ID, "client_secret": seed.AIRBYTE_CLIENT_SECRET}
    token = httpx.post(f"{api}/applications/token", json=credentials).json()["access_token"]
    connection = load_registry(around.store).by_partition()[active_partition(around)]
    url, headers = f"{api}/connections/{connection.connection_id}", {"authorization": f"Bearer {token}"}
    schedule = {"scheduleType": "cron", "cronExpression": "0 0 * * * ? UTC"}
    assert around.result("driver: airbyte schedules").status is Status.OK
    httpx.patch(url, json={"schedule": schedule}, headers=headers).raise_for_status()
    try:
        result = around.result("driver: airbyte schedules")
        external = around.with_group("ingestion", driver=Driver.EXTERNAL).result("driver: airbyte schedules")
    finally:
        httpx.patch(url, json={"schedule": {"scheduleType": "manual"}}, headers=headers).raise_for_status()
    assert result.status is Status.WARN
    assert connection.partition_key in result.detail
    assert external.status is Status.OK


def test_syncs_that_something_else_keeps_starting_are_two_drivers(around: Surroundings) -> None:
    partition = active_partition(around)
    for number in range(3):
        ended = NOW - timedelta(hours=number + 1)
        record_job(around, partition, 9_000 + number, started_by="external", ended_at=ended)
    result = around.result("driver: others")
    assert result.status is Status.WARN
    assert partition in result.detail


def test_one_sync_that_a_person_started_in_airbyte_is_no_second_driver(around: Surroundings) -> None:
    record_job(around, active_partition(around), 9_100, started_by="external", ended_at=NOW - timedelta(hours=1))
    record_job(around, active_partition(around), 9_101, started_by="external", ended_at=NOW - timedelta(hours=30))
    assert around.result("driver: others").status is Status.OK


def test_an_external_driver_that_does_nothing_is_a_warning(around: Surroundings) -> None:
    external = around.with_group("ingestion", driver=Driver.EXTERNAL)
    assert external.result("driver: others").status is Status.WARN
    record_job(around, active_partition(around), 9_200, started_by="external", ended_at=NOW - timedelta(hours=1))
    assert external.result("driver: others").status is Status.OK


# --------------------------------------------------------------------------------------------------------- webhook


@pytest.mark.parametrize("sender", [WebhookSender.ORCHESTRATOR, WebhookSender.RECONCILE])
def test_a_sender_without_the_secret_is_a_failure(around: Surroundings, sender: WebhookSender) -> None:
    assert around.with_group("webhook", sender=sender).result("webhook secret").status is Status.FAIL


def test_a_backend_that_was_not_told_of_a_job_is_noticed(
    around: Surroundings, backend_sql: Callable[..., None]
) -> None:
    partition = active_partition(around)
    connection = load_registry(around.store).by_partition()[partition]
    record_job(around, partition, 9_300, started_by="orchestrator", ended_at=NOW - timedelta(hours=1))
    behind = around.result("webhook delivery")
    backend_sql("update integrations_airbyteconnection set last_job_id = '9300' where id = %s", connection.row_id)
    assert behind.status is Status.WARN
    assert partition in behind.detail
    assert around.result("webhook delivery").status is Status.OK


def test_a_job_that_has_just_ended_is_not_yet_missed(around: Surroundings) -> None:
    record_job(around, active_partition(around), 9_999, started_by="orchestrator", ended_at=NOW - timedelta(minutes=5))
    assert around.result("webhook delivery").status is Status.SKIPPED
    assert "30 minutes ago or more" in around.result("webhook delivery").detail


def test_what_nobody_tells_the_backend_of_is_not_missed_there(around: Surroundings) -> None:
    partition, ended = active_partition(around), NOW - timedelta(hours=1)
    record_job(around, partition, 9_400, started_by="orchestrator", ended_at=ended, job_type="clear")
    record_job(around, partition, 9_401, started_by="orchestrator", ended_at=ended, status="cancelled")
    assert around.result("webhook delivery").status is Status.SKIPPED
    record_job(around, partition, 9_402, started_by="orchestrator", ended_at=ended, status="failed")
    assert around.result("webhook delivery").status is Status.WARN


# --------------------------------------------------------------------------------------------------------- backend


def test_the_backend_is_recognised_and_a_stranger_at_its_address_is_too(around: Surroundings) -> None:
    assert around.result("backend api").status is Status.OK
    stranger = around.with_group("backend", url=around.service).result("backend api")
    assert stranger.status is Status.FAIL
    assert "something else" in stranger.detail


def test_the_file_that_the_backend_reads_is_compared_with_the_published_one(
    around: Surroundings, tmp_path: Path
) -> None:
    assert around.result("run results read").status is Status.OK
    elsewhere = around.with_group("dbt", run_results_path=tmp_path / "elsewhere.json")
    assert elsewhere.result("run results read").status is Status.WARN


def test_the_same_results_under_two_paths_are_one_file(around: Surroundings, tmp_path: Path) -> None:
    results = {"metadata": {"generated_at": "2026-11-23T11:00:00Z"}, "results": []}
    around.settings.dbt.run_results_path.write_text(json.dumps(results))
    mounted = tmp_path / "mounted.json"
    mounted.write_text(json.dumps(results))
    try:
        result = around.with_group("dbt", run_results_path=mounted).result("run results read")
    finally:
        around.settings.dbt.run_results_path.unlink()
    assert result.status is Status.OK
    assert "another path" in result.detail


# -------------------------------------------------------------------------------------------------------- registry


def test_the_registry_that_is_served_is_told_by_standing(around: Surroundings) -> None:
    results = around.results("registry source", "registry overlay", "registry served")
    assert {result.status for result in results.values()} == {Status.OK}, results
    assert "7 active" in results["registry served"].detail
    assert "1 manual" in results["registry served"].detail


def test_a_wrong_overlay_is_named_with_its_line(around: Surroundings, tmp_path: Path) -> None:
    overlay = tmp_path / "tenants.yaml"
    overlay.write_text("tenants:\n  - name: Acme\n    timezone: America/Kingston\n")
    result = around.with_group("registry", overlay_path=overlay).result("registry overlay")
    assert result.status is Status.FAIL
    assert "tenants.yaml:3" in result.detail
