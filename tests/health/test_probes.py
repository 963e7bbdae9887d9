"""What each probe makes of what it meets: every state that its component can be in, over real HTTP and Postgres."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from dagster._daemon.types import DaemonHeartbeat
from pydantic import SecretStr

from adinsights_orchestration.health.catalog import CATALOG, unwatched, watched
from adinsights_orchestration.health.model import Component, Health, Reading
from adinsights_orchestration.local import seed
from adinsights_orchestration.local.web_faults import WEB_KNOBS
from adinsights_orchestration.settings import Settings
from tests.conftest import free_port
from tests.health.world import QUICK_SECONDS, TENANTS, WEBHOOK_SECRET, Platform

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
ASKED_OVER_HTTP = {
    Component.FRONTEND: "frontend",
    Component.SUPERSET: "superset",
    Component.BACKEND: "backend",
    Component.BACKEND_AIRBYTE: "backend",
    Component.BACKEND_DBT: "backend",
}
FAULTS = {
    "down": {"not_json"},
    "html_error": {"html"},
    "hang": {"timeout"},
    "trickle": {"timeout"},
    "redirect_loop": {"redirect_loop"},
    "oversize": {"oversize"},
    "truncated_json": {"truncated_json", "unexpected_content"},
}


def seen(reading: Reading) -> tuple[Health, str]:
    return reading.health, reading.state


@pytest.mark.parametrize("component", ASKED_OVER_HTTP)
def test_every_fault_of_a_server_is_a_state_of_its_component_and_goes_with_it(
    world: Platform, component: Component
) -> None:
    world.build()
    world.run_results.write_text(json.dumps({"metadata": {"generated_at": world.clock().isoformat()}, "results": []}))
    for fault, states in FAULTS.items():
        world.knob(ASKED_OVER_HTTP[component], fault)
        world.change(probe_timeout_seconds=QUICK_SECONDS if fault in ("hang", "trickle") else 10.0)
        began = time.monotonic()
        reading = world.probe(component)
        assert (fault, reading.health, reading.state in states) == (fault, Health.DOWN, True), reading
        assert time.monotonic() - began < 8
        world.knobs.reset(ASKED_OVER_HTTP[component])
    assert world.probe(component).health is not Health.DOWN


def test_the_faults_are_those_that_a_web_server_has() -> None:
    assert set(FAULTS) | {"slow_ms", "error_percent"} == {knob.name for knob in WEB_KNOBS}


def test_a_server_that_is_not_there_is_down(world: Platform) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    world.change(superset_url=nowhere, frontend_url="http://no-such-host.invalid/")
    world.move("backend", url=nowhere)
    for component in (Component.SUPERSET, Component.BACKEND, Component.BACKEND_AIRBYTE, Component.BACKEND_DBT):
        assert seen(world.probe(component)) == (Health.DOWN, "refused")
    assert seen(world.probe(Component.FRONTEND)) == (Health.DOWN, "dns")


def test_components_that_are_well_say_so(world: Platform) -> None:
    for component in (
        Component.FRONTEND,
        Component.SUPERSET,
        Component.BACKEND,
        Component.AIRBYTE,
        Component.WAREHOUSE,
    ):
        reading = world.probe(component)
        assert seen(reading) == (Health.OK, "ok")
        assert reading.latency_ms is not None


def test_a_page_that_is_not_the_frontend_s_is_down(world: Platform) -> None:
    world.knob("frontend", "wrong_page")
    assert seen(world.probe(Component.FRONTEND)) == (Health.DOWN, "unexpected_content")


@pytest.mark.parametrize(
    ("status", "health"),
    [
        ("ok", Health.OK),
        ("pending", Health.OK),
        ("stale", Health.DEGRADED),
        ("no_recent_sync", Health.DEGRADED),
        ("running_stale", Health.DEGRADED),
        ("sync_failed", Health.DEGRADED),
        ("misconfigured", Health.DOWN),
        ("status_store_unavailable", Health.DOWN),
    ],
)
def test_the_backend_s_airbyte_diagnosis_is_read_from_a_refusal_too(
    world: Platform, status: str, health: Health
) -> None:
    world.knob("backend", "health_override", {"airbyte": status})
    assert seen(world.probe(Component.BACKEND_AIRBYTE)) == (health, status)


@pytest.mark.parametrize(
    ("status", "health"),
    [
        ("ok", Health.OK),
        ("stale", Health.DEGRADED),
        ("missing_run_results", Health.DEGRADED),
        ("failing", Health.DEGRADED),
        ("invalid_run_results", Health.DOWN),
    ],
)
def test_the_backend_s_dbt_diagnosis_is_read_from_a_refusal_too(world: Platform, status: str, health: Health) -> None:
    world.knob("backend", "health_override", {"dbt": status})
    assert seen(world.probe(Component.BACKEND_DBT)) == (health, status)


def _job(world: Platform, job_id: int, connection: int = 0) -> None:
    """Posts a finished job to the backend's webhook, as Airbyte does."""
    ended = int(world.clock().timestamp())
    job = {"id": job_id, "status": "succeeded", "createdAt": ended - 60, "updatedAt": ended}
    body = {"connectionId": str(seed.connections()[connection].connection_id), "job": job}
    headers = {"X-Airbyte-Webhook-Secret": WEBHOOK_SECRET}
    reply = httpx.post(f"{world.url}/backend/api/airbyte/webhook/", json=body, headers=headers)
    assert reply.status_code == 200


def test_a_backend_that_calls_airbyte_well_while_the_ledger_does_not_is_shown_to_disagree(world: Platform) -> None:
    _job(world, 7)
    _freshness(world, "stale", "ok")
    reading = world.probe(Component.BACKEND_AIRBYTE)
    assert seen(reading) == (Health.OK, "ok")
    assert (reading.facts["agrees"], reading.facts["late_connections"]) == (False, 1)
    assert "1 of 2 connections are late" in reading.detail


def test_a_backend_and_a_ledger_that_agree_are_not_shown_to_disagree(world: Platform) -> None:
    _job(world, 7)
    _freshness(world, "ok", "paused")
    assert world.probe(Component.BACKEND_AIRBYTE).facts["agrees"] is True
    world.clock.advance(2 * 3600 + 60)
    _freshness(world, "stale", "no_recent_sync")
    reading = world.probe(Component.BACKEND_AIRBYTE)
    assert seen(reading) == (Health.DOWN, "stale")  # beyond the page level of 120 minutes
    assert reading.facts["agrees"] is True


def test_a_backend_that_reads_another_file_than_was_published_is_shown_to_disagree(world: Platform) -> None:
    world.build()
    reading = world.probe(Component.BACKEND_DBT)
    assert seen(reading) == (Health.DEGRADED, "missing_run_results")
    assert reading.facts["agrees"] is False
    assert "the recorded builds say ok" in reading.detail


def test_dbt_is_known_from_the_recorded_builds(world: Platform) -> None:
    assert seen(world.probe(Component.DBT)) == (Health.DEGRADED, "missing_run_results")
    world.build(failing=("stg_meta",))
    reading = world.probe(Component.DBT)
    assert seen(reading) == (Health.DEGRADED, "failing")
    assert reading.facts["failing_models"] == ["model.adinsights.stg_meta"]
    world.clock.advance(60)
    world.build()
    assert seen(world.probe(Component.DBT)) == (Health.OK, "ok")


def test_a_session_that_the_warehouse_refuses_is_down_and_tells_no_password(world: Platform) -> None:
    world.move("warehouse", password=SecretStr("hunter2-canary"), dbname="no_such_database")
    reading = world.probe(Component.WAREHOUSE)
    assert seen(reading) == (Health.DOWN, "refuses")
    assert "hunter2" not in repr(reading)
    world.move("warehouse", port=free_port())
    assert seen(world.probe(Component.WAREHOUSE)) == (Health.DOWN, "refused")


def test_a_warehouse_that_takes_connections_and_says_nothing_is_down_in_time(world: Platform) -> None:
    import socket

    world.change(probe_timeout_seconds=QUICK_SECONDS)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        world.move("warehouse", host="127.0.0.1", port=silent.getsockname()[1])
        began = time.monotonic()
        assert seen(world.probe(Component.WAREHOUSE)) == (Health.DOWN, "timeout")
        assert time.monotonic() - began < QUICK_SECONDS + 3


def test_an_airbyte_without_its_configuration_api_is_degraded_and_without_the_other_down(world: Platform) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    world.move("airbyte", config_api_url=nowhere)
    assert seen(world.probe(Component.AIRBYTE)) == (Health.DEGRADED, "configuration_api_down")
    world.move("airbyte", public_api_url=nowhere)
    assert seen(world.probe(Component.AIRBYTE)) == (Health.DOWN, "refused")
    world.move("airbyte", public_api_url=f"{world.url}/frontend")  # a login page at its place
    assert seen(world.probe(Component.AIRBYTE)) == (Health.DOWN, "html")


def test_the_registry_is_as_well_as_its_last_read(world: Platform) -> None:
    assert seen(world.probe(Component.REGISTRY)) == (Health.DOWN, "never_read")
    world.serve(*TENANTS)
    assert seen(world.probe(Component.REGISTRY)) == (Health.OK, "ok")
    world.clock.advance(16 * 60)
    assert seen(world.probe(Component.REGISTRY)) == (Health.DEGRADED, "stale")
    world.clock.advance(3600)
    assert seen(world.probe(Component.REGISTRY)) == (Health.DOWN, "stale")


# ------------------------------------------------------------------------------------------------------- the webhook


def test_a_webhook_is_silent_only_from_the_first_job_that_it_should_have_told(world: Platform) -> None:
    world.serve(*TENANTS)
    assert seen(world.probe(Component.WEBHOOK)) == (Health.OK, "idle")
    world.finish(1)
    _job(world, 1)
    world.clock.advance(12 * 3600)  # a night without a job
    assert seen(world.probe(Component.WEBHOOK)) == (Health.OK, "ok")
    world.finish(2, connection=1)
    assert seen(world.probe(Component.WEBHOOK)) == (Health.OK, "ok")
    world.clock.advance(31 * 60)
    reading = world.probe(Component.WEBHOOK)
    assert (seen(reading), reading.value) == ((Health.DEGRADED, "silent"), 31.0)
    world.clock.advance(30 * 60)
    assert seen(world.probe(Component.WEBHOOK)) == (Health.DOWN, "silent")
    _job(world, 2, connection=1)
    assert seen(world.probe(Component.WEBHOOK)) == (Health.OK, "ok")


def test_one_lost_post_is_not_a_silent_webhook(world: Platform) -> None:
    world.serve(*TENANTS)
    world.finish(1, connection=0)
    world.clock.advance(45 * 60)
    world.finish(2, connection=1)
    _job(world, 2, connection=1)
    assert seen(world.probe(Component.WEBHOOK)) == (Health.OK, "ok")


def test_a_webhook_is_unknown_while_the_backend_s_database_does_not_answer(world: Platform) -> None:
    world.serve(*TENANTS)
    world.finish(1)
    world.move("backend", dsn=SecretStr(f"postgresql://somebody:hunter2-canary@127.0.0.1:{free_port()}/backend"))
    reading = world.probe(Component.WEBHOOK)
    assert seen(reading) == (Health.UNKNOWN, "no_database")
    assert "hunter2" not in repr(reading)


# ---------------------------------------------------------------------------------------------------- the dashboards


def test_the_worst_tenant_s_dashboards_decide(world: Platform) -> None:
    world.serve(*TENANTS)
    ages = {str(tenant.id): 10 for tenant in TENANTS}
    world.knob("backend", "snapshot_age_minutes", ages)
    assert seen(world.probe(Component.DASHBOARDS)) == (Health.OK, "ok")
    world.knob("backend", "snapshot_age_minutes", {**ages, str(TENANTS[1].id): 61})
    reading = world.probe(Component.DASHBOARDS, {})
    assert seen(reading) == (Health.DEGRADED, "stale")
    assert reading.facts["worst_first"][0] == {"tenant": TENANTS[1].slug, "state": "stale", "age_minutes": 61.0}
    assert TENANTS[1].slug in reading.detail
    world.knob("backend", "snapshot_age_minutes", {**ages, str(TENANTS[1].id): 121})
    assert seen(world.probe(Component.DASHBOARDS, {})) == (Health.DOWN, "stale")


def test_a_snapshot_has_fifteen_minutes_after_the_build_that_it_lacks(world: Platform) -> None:
    world.serve(TENANTS[0])
    world.knob("backend", "snapshot_age_minutes", {str(TENANTS[0].id): 90})
    world.build(world.clock() - 10 * MINUTE)
    assert seen(world.probe(Component.DASHBOARDS)) == (Health.OK, "ok")
    world.build(world.clock() - 20 * MINUTE)  # an earlier one had its time
    assert seen(world.probe(Component.DASHBOARDS)) == (Health.DEGRADED, "stale")


def test_a_tenant_that_is_well_is_asked_every_five_minutes_and_one_that_is_not_every_minute(world: Platform) -> None:
    world.serve(TENANTS[0])
    world.knob("backend", "snapshot_age_minutes", {str(TENANTS[0].id): 50})
    memory: dict[str, Any] = {}

    def age(after_seconds: float) -> float | None:
        world.clock.advance(after_seconds)
        return world.probe(Component.DASHBOARDS, memory).value

    assert age(0) == 50
    world.knob("backend", "snapshot_age_minutes", {str(TENANTS[0].id): 70})
    assert age(240) == 54
    assert age(60) == 70
    world.knob("backend", "snapshot_age_minutes", {str(TENANTS[0].id): 0})
    assert age(30) == 70.5
    assert age(30) == 0


def test_a_wrong_key_or_a_proxy_s_page_is_no_data_about_dashboards(world: Platform) -> None:
    world.serve(*TENANTS)
    world.change(backend_api_key=SecretStr("another-key-canary"))
    reading = world.probe(Component.DASHBOARDS)
    assert seen(reading) == (Health.UNKNOWN, "http_403")
    assert "canary" not in repr(reading)
    world.knob("backend", "html_error")
    assert seen(world.probe(Component.DASHBOARDS, {})) == (Health.UNKNOWN, "html")


# -------------------------------------------------------------------------------------------------------- error rate


def test_too_few_requests_are_no_error_rate(world: Platform) -> None:
    memory: dict[str, Any] = {}
    assert seen(world.probe(Component.API, memory)) == (Health.UNKNOWN, "no_metrics")  # one reading is no rate
    world.clock.advance(30)
    reading = world.probe(Component.API, memory)
    assert seen(reading) == (Health.UNKNOWN, "too_few_requests")
    assert (reading.facts["source"], reading.facts["errors"]) == ("counters", 0)


def test_the_error_rate_is_read_from_the_backend_s_counters(world: Platform) -> None:
    memory: dict[str, Any] = {}
    world.probe(Component.API, memory)
    world.knob("backend", "error_percent", 10)
    with httpx.Client() as client:
        for _ in range(300):
            client.get(f"{world.url}/backend/api/health/")
    world.knobs.reset("backend")
    world.clock.advance(30)
    reading = world.probe(Component.API, memory)
    assert seen(reading) == (Health.DOWN, "failing")
    assert (reading.facts["requests"], reading.facts["errors"]) == (301, 30)
    assert reading.value == pytest.approx(10, abs=0.1)


def test_without_metrics_the_rate_rests_on_our_own_probes_and_says_so(world: Platform) -> None:
    world.round()
    world.knob("backend", "metrics_error")
    for _ in range(3):
        world.round(after=timedelta(seconds=30))
    world.clock.advance(600)
    reading = world.probe(Component.API, {})
    assert seen(reading) == (Health.UNKNOWN, "no_metrics")
    assert reading.facts["source"] == "probes"
    assert "HTTP 500" in reading.facts["sources_without_data"][0]


def test_our_own_probes_are_no_customers(world: Platform) -> None:
    world.knob("backend", "health_override", {"airbyte": "stale", "dbt": "failing"})
    for _ in range(8):
        world.round(after=timedelta(seconds=30))
    facts = world.states()[Component.API].reading.facts
    assert facts["source"] == "counters"
    assert (facts["requests"] <= 6, facts["errors"] <= 3) == (True, True), facts  # 14 answers of 502 and 503 are ours


# ------------------------------------------------------------------------------------------- files, daemons, scheduler


def test_a_folder_is_an_object_store_that_can_be_written(world: Platform, tmp_path: Path) -> None:
    world.change(object_store_url=f"file://{tmp_path}")
    assert world.probe(Component.OBJECT_STORE).state in ("ok", "full")
    world.change(object_store_url=f"file://{tmp_path}/nowhere")
    assert seen(world.probe(Component.OBJECT_STORE)) == (Health.DOWN, "no_folder")


def test_an_address_is_an_object_store_that_answers(world: Platform) -> None:
    world.change(object_store_url=f"{world.url}/superset/health")
    assert seen(world.probe(Component.OBJECT_STORE)) == (Health.OK, "ok")
    world.knob("superset", "down")
    assert seen(world.probe(Component.OBJECT_STORE)) == (Health.DOWN, "http_503")


def test_the_old_scheduler_is_watched_by_its_file_or_its_address(world: Platform, tmp_path: Path) -> None:
    import os

    beat = tmp_path / "heartbeat"
    world.change(scheduler_heartbeat=str(beat))
    assert seen(world.probe(Component.SCHEDULER)) == (Health.DOWN, "no_heartbeat")
    beat.touch()
    os.utime(beat, (world.clock().timestamp(),) * 2)
    assert seen(world.probe(Component.SCHEDULER)) == (Health.OK, "ok")
    world.clock.advance(180)
    assert seen(world.probe(Component.SCHEDULER)) == (Health.DEGRADED, "silent")
    world.clock.advance(180)
    assert seen(world.probe(Component.SCHEDULER)) == (Health.DOWN, "silent")
    world.change(scheduler_heartbeat=f"{world.url}/superset/health")
    assert seen(world.probe(Component.SCHEDULER)) == (Health.OK, "ok")
    world.knob("superset", "html_error")
    assert seen(world.probe(Component.SCHEDULER)) == (Health.DOWN, "html")


def test_a_daemon_is_as_well_as_its_last_heartbeat(world: Platform) -> None:
    required = world.instance.get_required_daemon_types()
    assert seen(world.probe(Component.DAGSTER_DAEMONS)) == (Health.DOWN, "silent")
    for daemon in required:
        _beat(world, daemon, timedelta(seconds=20))
    assert seen(world.probe(Component.DAGSTER_DAEMONS)) == (Health.OK, "ok")
    _beat(world, required[0], timedelta(minutes=3))
    reading = world.probe(Component.DAGSTER_DAEMONS)
    assert seen(reading) == (Health.DEGRADED, "silent")
    assert required[0] in reading.detail
    _beat(world, required[0], timedelta(minutes=6))
    assert seen(world.probe(Component.DAGSTER_DAEMONS)) == (Health.DOWN, "silent")


def test_while_the_webserver_is_down_code_locations_are_unknown(world: Platform) -> None:
    world.move("dagster", ui_url=f"http://127.0.0.1:{free_port()}")
    assert seen(world.probe(Component.CODE_LOCATIONS)) == (Health.UNKNOWN, "webserver_refused")
    world.knob("frontend", "html_error")
    world.move("dagster", ui_url=f"{world.url}/frontend")
    assert seen(world.probe(Component.CODE_LOCATIONS)) == (Health.UNKNOWN, "webserver_html")
    world.move("dagster", ui_url=f"{world.url}/backend/api/health")
    assert world.probe(Component.CODE_LOCATIONS).health is Health.UNKNOWN


# -------------------------------------------------------------------------------------------------------- the catalog


def test_every_component_has_an_entry_and_what_is_not_configured_is_not_watched() -> None:
    assert set(CATALOG) == set(Component)
    bare = Settings()
    assert set(watched(bare)) | set(unwatched(bare)) == set(Component)
    assert set(unwatched(bare)) == {
        Component.FRONTEND,
        Component.SUPERSET,
        Component.DASHBOARDS,
        Component.OBJECT_STORE,
        Component.SCHEDULER,
    }


def _beat(world: Platform, daemon: str, ago: timedelta) -> None:
    at = (world.clock() - ago).timestamp()
    world.instance.add_daemon_heartbeat(DaemonHeartbeat(timestamp=at, daemon_type=daemon, daemon_id="one", errors=[]))


def _freshness(world: Platform, *states: str) -> None:
    dsn = world.store.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(dsn) as connection:
        connection.execute("delete from adinsights_ops.connection_freshness")
        for number, state in enumerate(states):
            connection.execute(
                """insert into adinsights_ops.connection_freshness
                   (partition_key, provider, tenant_id, state, detail, since, expected_since, expectation, evaluated_at)
                   values (%s, 'meta', %s, %s, '', %s, %s, '', %s)""",
                (str(number), TENANTS[0].id, state, world.clock(), world.clock(), world.clock()),
            )
