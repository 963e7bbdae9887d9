"""The backend's endpoints over HTTP, on a real database."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from adinsights_orchestration.local import seed
from adinsights_orchestration.local.backend import prepare_backend
from adinsights_orchestration.local.backend.app import BACKEND_KNOBS, BackendConfig, create_backend_app
from adinsights_orchestration.local.knobs import Knobs
from adinsights_orchestration.local.serving import running
from adinsights_orchestration.local.settings import LocalSettings
from adinsights_orchestration.local.web_faults import WEB_KNOBS
from tests.conftest import PostgresServer
from tests.local.airbyte_support import START, ManualClock

SECRET = {"X-Airbyte-Webhook-Secret": "the-webhook-secret"}
KEY = {"X-API-Key": "the-service-key"}
CONNECTION = seed.connections()[0]
TENANT = str(seed.tenant_id(CONNECTION.tenant))


@dataclass
class BackendServer:
    """A running backend and what is behind it."""

    url: str
    dsn: str
    warehouse: str
    knobs: Knobs
    clock: ManualClock
    run_results: Path
    client: httpx.Client = field(repr=False)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.client.get(self.url + path, **options)

    def post_job(self, headers: dict[str, str] | None = None, **job: Any) -> httpx.Response:
        body = {"connectionId": str(CONNECTION.connection_id), "job": {**JOB, **job}}
        return self.client.post(f"{self.url}/api/airbyte/webhook/", json=body, headers=headers or SECRET)

    def row(self) -> dict[str, Any]:
        with psycopg.connect(self.dsn, row_factory=psycopg.rows.dict_row) as database:
            statement = "select * from integrations_airbyteconnection where id = %s"
            row = database.execute(statement, (CONNECTION.row_id,)).fetchone()
        assert row is not None
        return row

    def count(self, table: str) -> int:
        with psycopg.connect(self.dsn) as database:
            row = database.execute(f"select count(*) from {table}".encode()).fetchone()
        assert row is not None
        return int(row[0])


JOB: dict[str, Any] = {
    "id": 41,
    "status": "succeeded",
    "createdAt": int(START.timestamp()) - 90,
    "updatedAt": int(START.timestamp()) - 30,
    "aggregatedStats": {"recordsCommitted": 12, "bytesCommitted": 3400},
}


@pytest.fixture
def backend(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[BackendServer]:
    dsn, warehouse = postgres_server.create_database("backend"), postgres_server.create_database("warehouse")
    prepare_backend(LocalSettings(), dsn, START)
    knobs, clock, path = Knobs(), ManualClock(), tmp_path / "run_results.json"
    config = BackendConfig(dsn, warehouse, path, "the-webhook-secret", "the-service-key", "the-alerts-key")
    with running(create_backend_app(config, knobs, clock=clock)) as url, httpx.Client(timeout=10) as client:
        yield BackendServer(url, dsn, warehouse, knobs, clock, path, client)


def test_a_posted_job_becomes_the_last_job_a_telemetry_row_and_an_audit_row(backend: BackendServer) -> None:
    assert backend.post_job().status_code == 200
    row = backend.row()
    assert (row["last_job_id"], row["last_job_status"], row["last_job_error"]) == ("41", "succeeded", "")
    assert row["last_synced_at"] == row["last_job_completed_at"] == row["last_job_updated_at"]
    assert backend.count("integrations_airbytejobtelemetry") == 1
    logged = backend.get("/api/audit-logs/?action=airbyte_job_webhook", headers=KEY).json()["results"]
    assert [(entry["tenant_id"], entry["resource_type"]) for entry in logged] == [(TENANT, "airbyte_connection")]
    assert logged[0]["user_id"] is None


def test_a_job_in_the_public_apis_spelling_is_read_as_well(backend: BackendServer) -> None:
    job = {
        "jobId": 42,
        "status": "failed",
        "startTime": "2026-03-02T13:58Z",
        "lastUpdatedAt": "2026-03-02T13:59:30Z",
        "rowsSynced": 5,
        "failureReason": {"failureType": "config_error", "externalMessage": "Token revoked."},
    }
    body = {"connectionId": str(CONNECTION.connection_id), "job": job}
    assert backend.client.post(f"{backend.url}/api/airbyte/webhook/", json=body, headers=SECRET).status_code == 200
    row = backend.row()
    assert (row["last_job_id"], row["last_job_status"], row["last_job_error"]) == ("42", "failed", "Token revoked.")


def test_the_last_attempts_reason_is_kept(backend: BackendServer) -> None:
    failures = [{"externalMessage": "The access token was revoked."}]
    backend.post_job(status="failed", attempts=[{"failureSummary": {"failures": failures}}])
    assert backend.row()["last_job_error"] == "The access token was revoked."


def test_a_doubled_post_writes_a_second_audit_row_and_one_telemetry_row(backend: BackendServer) -> None:
    backend.post_job()
    backend.post_job()
    assert backend.count("accounts_auditlog") == 2
    assert backend.count("integrations_airbytejobtelemetry") == 1


def test_a_wrong_secret_an_unknown_connection_and_a_bad_body_change_nothing(backend: BackendServer) -> None:
    url = f"{backend.url}/api/airbyte/webhook/"
    unknown = {"connectionId": str(uuid.uuid4()), "job": JOB}
    assert backend.post_job(headers={"X-Airbyte-Webhook-Secret": "guess"}).status_code == 403
    assert backend.client.post(url, json=unknown, headers=SECRET).status_code == 404
    assert backend.client.post(url, json={"connectionId": "x"}, headers=SECRET).status_code == 400
    assert backend.client.post(url, content=b"{", headers=SECRET).status_code == 400
    assert backend.count("accounts_auditlog") == 0
    assert backend.row()["last_job_id"] == ""


def test_airbyte_health_speaks_of_the_newest_sync_only(backend: BackendServer) -> None:
    assert backend.get("/api/health/airbyte/").json()["status"] == "no_recent_sync"
    backend.post_job()
    healthy = backend.get("/api/health/airbyte/")
    assert (healthy.status_code, healthy.json()["status"]) == (200, "ok")
    assert healthy.json()["last_sync"]["tenant_id"] == TENANT
    backend.clock.advance(3600)
    stale = backend.get("/api/health/airbyte/")
    assert (stale.status_code, stale.json()["status"]) == (503, "stale")


def test_a_database_that_is_away_is_told_in_the_body(postgres_server: PostgresServer, tmp_path: Path) -> None:
    nowhere = "postgresql://adinsights:x@127.0.0.1:1/backend"
    config = BackendConfig(nowhere, nowhere, tmp_path / "x.json", "a", "b", "c")
    with running(create_backend_app(config, Knobs())) as url:
        reply = httpx.get(f"{url}/api/health/airbyte/")
    assert (reply.status_code, reply.json()["status"]) == (503, "status_store_unavailable")


def test_dbt_health_reads_the_published_file(backend: BackendServer) -> None:
    assert backend.get("/api/health/dbt/").status_code == 503
    generated = START.isoformat()
    backend.run_results.write_text(f'{{"metadata": {{"generated_at": "{generated}"}}, "results": []}}')
    reply = backend.get("/api/health/dbt/")
    assert (reply.status_code, reply.json()["run_results_path"]) == (200, str(backend.run_results))


def test_audit_logs_are_filtered_and_need_the_key(backend: BackendServer) -> None:
    backend.post_job()
    assert backend.get("/api/audit-logs/").status_code == 403
    assert backend.get("/api/audit-logs/?resource_type=user", headers=KEY).json()["results"] == []
    assert len(backend.get("/api/audit-logs/?resource_type=airbyte_connection", headers=KEY).json()["results"]) == 1
    assert backend.get("/api/audit-logs/?limit=many", headers=KEY).status_code == 400


def test_combined_metrics_tell_the_age_of_the_tenants_own_facts(backend: BackendServer) -> None:
    path = f"/api/metrics/combined/?source=warehouse&tenant_id={TENANT}"
    assert backend.get(path).status_code == 403
    assert backend.get(path, headers=KEY).json()["snapshot_generated_at"] is None
    with psycopg.connect(backend.warehouse) as warehouse:
        warehouse.execute("create schema analytics")
        warehouse.execute(
            "create table analytics.fct_ad_performance (tenant_id varchar, impressions bigint, clicks bigint, "
            "spend numeric, conversions numeric, built_at timestamptz)"
        )
        insert = "insert into analytics.fct_ad_performance values (%s, 10, 2, 1.5, 1, %s)"
        warehouse.execute(insert, (TENANT, START))
        warehouse.execute(insert, (str(uuid.uuid4()), START.replace(year=2027)))
    body = backend.get(path, headers=KEY).json()
    assert body["snapshot_generated_at"] == START.isoformat()
    assert body["campaign"]["summary"] == {"impressions": 10, "clicks": 2, "spend": 1.5, "conversions": 1.0}
    assert backend.get("/api/metrics/combined/?tenant_id=7", headers=KEY).status_code == 400


def test_the_backend_counts_its_own_answers_by_status(backend: BackendServer) -> None:
    backend.get("/api/health/")
    backend.get("/api/health/dbt/")
    backend.get("/api/nothing/")
    text = backend.get("/metrics/app/").text
    for status, count in ((200, 1), (503, 1), (404, 1)):
        assert f'django_http_responses_total_by_status_total{{status="{status}"}} {float(count)}\n' in text
    assert 'django_http_requests_latency_including_middlewares_seconds_bucket{le="+Inf"} 3.0\n' in text


def test_rules_are_evaluated_again_for_who_has_the_key(backend: BackendServer) -> None:
    assert backend.client.post(f"{backend.url}/alerts/run").status_code == 403
    reply = backend.client.post(f"{backend.url}/alerts/run", headers={"X-API-Key": "the-alerts-key"})
    assert reply.json()["evaluated_at"] == START.isoformat()


def turn(backend: BackendServer, name: str, value: Any) -> None:
    backend.knobs.set("backend", name, value)


def test_a_backend_that_is_down_counts_its_503s(backend: BackendServer) -> None:
    turn(backend, "down", True)
    assert backend.get("/api/health/").status_code == 503
    turn(backend, "down", False)
    assert 'status="503"} 1.0' in backend.get("/metrics/app/").text


def test_a_proxy_in_front_answers_html(backend: BackendServer) -> None:
    turn(backend, "html_error", True)
    reply = backend.get("/api/health/")
    assert (reply.status_code, reply.headers["content-type"].partition(";")[0]) == (502, "text/html")


def test_a_slow_backend_outlasts_an_impatient_client(backend: BackendServer) -> None:
    turn(backend, "slow_ms", 2000)
    with pytest.raises(httpx.ReadTimeout):
        backend.get("/api/health/", timeout=0.3)


def test_webhook_posts_can_be_lost_and_refused(backend: BackendServer) -> None:
    turn(backend, "webhook_drop_next", 1)
    turn(backend, "webhook_error_next", 1)
    with pytest.raises(httpx.TransportError):
        backend.post_job()
    assert backend.post_job().status_code == 500
    assert backend.count("accounts_auditlog") == 0
    assert backend.post_job().status_code == 200


def test_a_health_status_can_be_put_in_its_place(backend: BackendServer) -> None:
    turn(backend, "health_override", {"airbyte": "running_stale", "dbt": "failing"})
    airbyte, dbt = backend.get("/api/health/airbyte/"), backend.get("/api/health/dbt/")
    assert (airbyte.status_code, airbyte.json()["status"]) == (503, "running_stale")
    assert (dbt.status_code, dbt.json()["status"]) == (502, "failing")


def test_a_tenant_s_dashboards_can_be_made_old(backend: BackendServer) -> None:
    turn(backend, "snapshot_age_minutes", {TENANT: 90})
    body = backend.get(f"/api/metrics/combined/?source=warehouse&tenant_id={TENANT}", headers=KEY).json()
    assert body["snapshot_generated_at"] == (START - timedelta(minutes=90)).isoformat()


def test_the_metrics_can_fail_alone(backend: BackendServer) -> None:
    turn(backend, "metrics_error", True)
    assert backend.get("/metrics/app/").status_code == 500
    assert backend.get("/api/health/").status_code == 200


def test_every_knob_of_the_backend_is_turned_by_some_test() -> None:
    text = Path(__file__).read_text()
    own = [knob.name for knob in BACKEND_KNOBS if knob not in WEB_KNOBS]  # those are held by tests of their own
    assert [name for name in own if f'"{name}", ' not in text] == []
