"""What the probes of figures make of what they are told: the age of each tenant's dashboards, the API's error rate."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from adinsights_orchestration.health.error_rate import Counters, Process
from adinsights_orchestration.health.model import QUIET, Component, Health
from adinsights_orchestration.health.probes.api import _holds_ours, note_own_requests
from adinsights_orchestration.settings import HealthSettings
from tests.health.world import TENANTS, Platform, seen

MINUTE = timedelta(minutes=1)


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


def test_an_api_that_failed_is_well_again_when_nobody_comes_any_more(world: Platform) -> None:
    """Its errors sent the visitors away, or a balancer that follows `overall` did: neither comes back to a red API."""
    world.round()
    world.round(after=timedelta(seconds=30))
    world.knob("backend", "error_percent", 10)
    with httpx.Client() as client:
        for _ in range(300):
            client.get(f"{world.url}/backend/api/metrics/combined/")
    world.knobs.reset("backend")
    found: list[tuple[Health, str]] = []
    for _ in range(24):
        world.round(after=timedelta(seconds=30))
        found.append(seen(world.states()[Component.API].reading))
    assert (Health.DOWN, "failing") in found
    assert (Health.DOWN, "too_few_requests") in found, "not at once"
    assert found[-1] == (Health.UNKNOWN, "too_few_requests")


def test_few_requests_of_which_most_fail_are_not_quiet(world: Platform) -> None:
    memory: dict[str, Any] = {}
    world.probe(Component.API, memory)
    for ticks in range(10):
        world.clock.advance(30)
        world.knob("backend", "error_percent", 50 if ticks == 9 else 0)
        for _ in range(4):
            httpx.get(f"{world.url}/backend/api/health/")
        world.knobs.reset("backend")
        reading = world.probe(Component.API, memory)
        assert seen(reading) == (Health.UNKNOWN, "too_few_requests")
        assert reading.facts.get(QUIET, False) is (ticks == 8), reading


def test_several_processes_behind_the_metrics_address_are_no_error_rate(world: Platform) -> None:
    counted = {"test": Process(world.clock(), {"": {"status=200": 9e9}})}
    resets = tuple(world.clock() - timedelta(seconds=30 * n) for n in (3, 2, 1))
    host = world.url.removeprefix("http://")
    memory: dict[str, Any] = {"api": Counters(counted, {host: world.clock()}, (), {host: resets}).to_json()}
    world.clock.advance(30)
    reading = world.probe(Component.API, memory)
    assert seen(reading) == (Health.UNKNOWN, "several_processes")
    assert "ADINSIGHTS_HEALTH__METRICS_URLS" in reading.detail


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


def _what_the_counter_says(world: Platform, **settings: Any) -> tuple[tuple[Health, str], dict[str, Any]]:
    """300 requests with 15 errors, while our own were 80 with 20 bad answers."""
    world.change(**settings)
    memory: dict[str, Any] = {}
    world.probe(Component.API, memory)
    host = world.url.removeprefix("http://")
    note_own_requests(memory, [(host, 503)] * 20 + [(host, 200)] * 60, f"{world.url}/backend", world.clock())
    world.knob("backend", "error_percent", 5)
    with httpx.Client() as client:
        for _ in range(300):
            client.get(f"{world.url}/backend/api/health/")
    world.knobs.reset("backend")
    world.clock.advance(30)
    reading = world.probe(Component.API, memory)
    return seen(reading), dict(reading.facts)


def test_our_own_requests_are_taken_out_of_a_counter_that_holds_them_and_the_facts_say_so(world: Platform) -> None:
    said, facts = _what_the_counter_says(world)
    assert said == (Health.OK, "ok")
    assert (facts["own_requests_taken_out"], facts["own_errors_taken_out"]) == (80, 20)


def test_customers_errors_are_not_hidden_where_the_counter_does_not_hold_ours(world: Platform) -> None:
    said, facts = _what_the_counter_says(world, own_requests_counted=False)
    assert said[0] in (Health.DEGRADED, Health.DOWN), facts
    assert (facts["errors"], facts["own_requests_taken_out"]) == (15, 0)


@pytest.mark.parametrize(
    ("settings", "holds"),
    [
        ({}, True),
        ({"metrics_filter": ("job=backend",)}, False),
        ({"requests_metric": "gateway_requests_total"}, False),
        ({"metrics_filter": ("job=backend",), "own_requests_counted": True}, True),
        ({"own_requests_counted": False}, False),
    ],
)
def test_only_the_default_counter_without_a_filter_is_taken_to_hold_our_requests(
    settings: dict[str, Any], holds: bool
) -> None:
    assert _holds_ours(HealthSettings(**settings)) is holds


def test_our_own_probes_are_no_customers(world: Platform) -> None:
    world.knob("backend", "health_override", {"airbyte": "stale", "dbt": "failing"})
    for _ in range(8):
        world.round(after=timedelta(seconds=30))
    facts = world.states()[Component.API].reading.facts
    assert facts["source"] == "counters"
    assert (facts["requests"] <= 6, facts["errors"] <= 3) == (True, True), facts  # 14 answers of 502 and 503 are ours
