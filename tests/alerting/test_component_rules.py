"""Rules about components: what is said of each standing, under which name, against which level."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from adinsights_orchestration.alerting.evaluation.incidents import new
from adinsights_orchestration.alerting.facts import Facts, OpenFinding
from adinsights_orchestration.alerting.inhibition import Graph, inhibited
from adinsights_orchestration.alerting.message import Severity
from adinsights_orchestration.alerting.model import Finding, State
from adinsights_orchestration.alerting.places import Places
from adinsights_orchestration.alerting.rules import components
from adinsights_orchestration.alerting.rules.catalog import INHIBITIONS, RULES
from adinsights_orchestration.alerting.rules.rule import judge
from adinsights_orchestration.health.dbt import DbtState
from adinsights_orchestration.health.model import Component, ComponentState, Health, Reading
from adinsights_orchestration.health.states import step
from tests.alerting.plant import MINUTE, PRODUCTION, SLA, Plant
from tests.alerting.support import NOON

HOUR = timedelta(hours=1)
PLACES = Places.of(PRODUCTION, None)


def said(facts: Facts) -> list[Finding]:
    return list(components.components(facts).findings)


def test_what_a_new_deployment_has_not_had_yet_is_told_after_an_hour_and_ends_nothing(plant: Plant) -> None:
    plant.component("registry", "down", "never_read")
    plant.component("dashboards", "degraded", "stale")
    plant.tick()
    assert "Dashboards are not well: stale" in "".join(plant.shown().values())
    plant.component("dashboards", "degraded", "no_snapshot")
    plant.tick()
    (text,) = plant.shown().values()
    assert "RESOLVED" not in text
    assert "Registry" not in text
    plant.tick(after=timedelta(hours=1))
    assert "[FIRING PAGE] Registry is down: never read" in "".join(plant.shown().values())


@pytest.mark.parametrize(
    ("state", "rule"),
    [
        (DbtState.STALE, "dbt_stale"),
        (DbtState.FAILING, "dbt_failing"),
        (DbtState.INVALID, "dbt_invalid"),
        (DbtState.MISSING, "dbt_missing"),
        ("probe_error", "dbt_unwell"),
    ],
)
def test_each_state_of_dbt_has_a_rule_of_its_own_also_while_nothing_more_is_learnt(state: str, rule: str) -> None:
    reading = Reading(Component.DBT, Health.DOWN, state, "x", NOON)
    known = step(None, reading, MINUTE)
    later = step(known, Reading(Component.DBT, Health.UNKNOWN, "timeout", "x", NOON + MINUTE), MINUTE)
    for each in (known, later):
        since = replace(each, last_ok_at=NOON - HOUR)
        facts = Facts(NOON + MINUTE, SLA, PLACES, components={Component.DBT: since})
        (found,) = said(facts)
        assert (found.rule, found.title) == (rule, f"dbt is down: {state.replace('_', ' ')}")


def test_what_gives_no_answer_is_said_to_have_missed_an_answer_and_what_answers_its_figure() -> None:
    def sla(component: Component, value: float | None) -> str:
        state = step(None, Reading(component, Health.DOWN, "x", "x", NOON, value=value), MINUTE)
        (found,) = said(Facts(NOON, SLA, PLACES, components={component: state}))
        assert found.severity is Severity.PAGE
        return found.sla.partition(" (")[0]

    assert (sla(Component.BACKEND_DBT, None), sla(Component.BACKEND_DBT, 2200.0)) == ("1 minute", "24 / 36 hours")
    assert sla(Component.AIRBYTE, None) == "1 minute"


def test_every_state_in_which_dbt_is_not_well_has_a_rule() -> None:
    assert set(components._DBT) == set(DbtState) - {DbtState.OK}


def test_an_api_with_too_little_traffic_to_judge_is_no_alert_any_more_and_one_without_metrics_is(plant: Plant) -> None:
    plant.component("api", "down", "failing", last_ok_at=plant.now)
    plant.tick()
    plant.component("api", "unknown", "no_metrics")
    assert plant.tick().changes == {"no_data": 1}
    plant.component("api", "unknown", "too_few_requests")
    assert plant.tick().changes == {"data_again": 1, "resolved": 1}


@pytest.mark.parametrize("state", ["missing_run_results", "never_read", "no_recent_sync"])
def test_what_was_there_before_and_is_missing_now_is_told_at_once(plant: Plant, state: str) -> None:
    plant.component("backend_dbt", "down", state, last_ok_at=plant.now - timedelta(days=1))
    plant.tick()
    assert f"dbt in the backend's eyes is down: {state.replace('_', ' ')}" in "".join(plant.shown().values())


@pytest.mark.parametrize("health", [Health.OK, Health.DOWN])
def test_a_configuration_api_that_goes_down_with_its_airbyte_is_no_matter_of_its_own(health: Health) -> None:
    airbyte = ComponentState(Reading(Component.AIRBYTE, health, "x", "it says so", NOON), NOON, None)
    noted = OpenFinding("airbyte_config_api", "airbyte", {"problem": "HTTP 503"}, NOON)
    facts = Facts(NOON, SLA, PLACES, components={Component.AIRBYTE: airbyte}, findings=(noted,))
    incidents = [replace(new(each, NOON), state=State.FIRING) for each in judge(RULES, facts).findings]
    quiet = inhibited(incidents, Graph(), INHIBITIONS)
    assert {each.finding.rule for each in incidents if each.fingerprint in quiet} == (
        {"noted"} if health is Health.DOWN else set()
    )
