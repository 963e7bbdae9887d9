"""What each probe makes of what it is answered over HTTP: frontend, Superset, backend, Airbyte, the old scheduler."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import psycopg
import pytest

from adinsights_orchestration.freshness.states import Place, save_place
from adinsights_orchestration.health.model import Component, Health
from adinsights_orchestration.local.web_faults import WEB_KNOBS
from tests.conftest import HANG_SECONDS, free_port
from tests.health.world import QUICK_SECONDS, TENANTS, Platform, seen

ASKED_OVER_HTTP = {
    Component.FRONTEND: "frontend",
    Component.SUPERSET: "superset",
    Component.BACKEND: "backend",
    Component.BACKEND_AIRBYTE: "backend",
    Component.BACKEND_DBT: "backend",
}
FAULTS = {
    "down": {"http_503"},
    "html_error": {"html"},
    "hang": {"timeout"},
    "trickle": {"timeout"},
    "redirect_loop": {"redirect_loop"},
    "oversize": {"oversize"},
    "truncated_json": {"truncated_json", "unexpected_content"},
}


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
        assert time.monotonic() - began < HANG_SECONDS
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


def test_a_backend_that_calls_airbyte_well_while_the_ledger_does_not_is_shown_to_disagree(world: Platform) -> None:
    world.post_job(7)
    _freshness(world, "stale", "ok")
    reading = world.probe(Component.BACKEND_AIRBYTE)
    assert seen(reading) == (Health.OK, "ok")
    assert (reading.facts["agrees"], reading.facts["late_connections"]) == (False, 1)
    assert "1 of 2 connections are late" in reading.detail


def test_a_backend_and_a_ledger_that_agree_are_not_shown_to_disagree(world: Platform) -> None:
    world.post_job(7)
    _freshness(world, "ok", "paused")
    assert world.probe(Component.BACKEND_AIRBYTE).facts["agrees"] is True
    world.clock.advance(2 * 3600 + 60)
    _freshness(world, "stale", "no_recent_sync")
    reading = world.probe(Component.BACKEND_AIRBYTE)
    assert seen(reading) == (Health.DOWN, "stale")  # beyond the page level of 120 minutes
    assert reading.facts["agrees"] is True


def test_a_night_without_syncs_is_told_and_wakes_nobody_while_the_ledger_misses_nothing(world: Platform) -> None:
    world.post_job(7)
    world.clock.advance(3 * 3600)
    _freshness(world, "ok", "paused")
    reading = world.probe(Component.BACKEND_AIRBYTE)
    assert seen(reading) == (Health.DEGRADED, "stale")
    assert (reading.value, reading.facts["as_scheduled"]) == (180.0, True)
    _freshness(world, "ok", "stale")
    assert seen(world.probe(Component.BACKEND_AIRBYTE)) == (Health.DOWN, "stale")


def test_a_ledger_that_nobody_evaluates_any_more_vouches_for_no_night(world: Platform) -> None:
    world.post_job(7)
    _freshness(world, "ok")
    world.clock.advance(3 * 3600)
    assert seen(world.probe(Component.BACKEND_AIRBYTE)) == (Health.DOWN, "stale")


def test_a_backend_that_reads_another_file_than_was_published_is_shown_to_disagree(world: Platform) -> None:
    world.build()
    reading = world.probe(Component.BACKEND_DBT)
    assert seen(reading) == (Health.DEGRADED, "missing_run_results")
    assert reading.facts["agrees"] is False
    assert "the recorded builds say ok" in reading.detail


def test_an_airbyte_without_its_configuration_api_is_degraded_and_without_the_other_down(world: Platform) -> None:
    nowhere = f"http://127.0.0.1:{free_port()}"
    world.move("airbyte", config_api_url=nowhere)
    assert seen(world.probe(Component.AIRBYTE)) == (Health.DEGRADED, "configuration_api_down")
    world.move("airbyte", public_api_url=nowhere)
    assert seen(world.probe(Component.AIRBYTE)) == (Health.DOWN, "refused")
    world.move("airbyte", public_api_url=f"{world.url}/frontend")  # a login page at its place
    assert seen(world.probe(Component.AIRBYTE)) == (Health.DOWN, "html")


def test_the_old_scheduler_is_watched_by_its_file_or_its_address(world: Platform, tmp_path: Path) -> None:
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


def _freshness(world: Platform, *states: str) -> None:
    """The evaluation of this moment."""
    with world.store.begin() as transaction:
        save_place(transaction, Place(world.clock(), 1, "rules", ""), world.clock())
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
