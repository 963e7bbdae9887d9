"""What an alert links beside the runbook: the very thing that failed, and the dashboards that show it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from adinsights_orchestration.alerting.facts import Events, Facts, Failure, NightDone, SyncErrors
from adinsights_orchestration.alerting.message import Link
from adinsights_orchestration.alerting.places import Places
from adinsights_orchestration.alerting.rules import components, connections, data
from adinsights_orchestration.health.dbt import DbtState
from adinsights_orchestration.health.model import Component
from adinsights_orchestration.tenants.model import Provider
from adinsights_orchestration.topology.model import Asset, Dashboard, Job, Topology
from tests.alerting.ledger import ACME
from tests.alerting.plant import MINUTE, PRODUCTION, SLA
from tests.alerting.support import NOON
from tests.alerting.trouble import KEY, component

UI = PRODUCTION.dagster.ui_url.rstrip("/")
TOPOLOGY = Topology(
    "pipelines",
    (Asset("marts/agg_campaign_daily"), Asset("staging/stg_meta")),
    (Dashboard("superset/spend", "Spend", ("meta",), url="https://bi.example.com/spend"),),
    (Job("dbt_nightly"),),
)
PLACES = Places.of(PRODUCTION, TOPOLOGY)
FACTS = Facts(NOON, SLA, PLACES)


def links(found: Any) -> dict[str, str]:
    (one,) = found.findings
    assert [link.label for link in one.links][-1] == "Runbook"
    return {link.label: link.url for link in one.links}


def dbt(**facts: object) -> Facts:
    state = component(Component.DBT, DbtState.FAILING)
    state = replace(state, reading=replace(state.reading, facts=facts))
    failed = {"dbt_refresh": Failure(NOON - MINUTE, "x", "older"), "dbt_nightly": Failure(NOON, "x", "newer")}
    failed["sync_nightly"] = Failure(NOON + MINUTE, "x", "another")
    return replace(FACTS, components={Component.DBT: state}, events=Events(jobs=failed))


def test_a_failing_dbt_links_the_build_that_failed_and_the_models_that_are_known() -> None:
    failing = ["model.adinsights.agg_campaign_daily", "model.adinsights.agg_of_a_later_release"]
    found = links(components.components(dbt(failed_run="run-7", failing_models=failing)))
    assert list(found) == ["Health", "Run", "agg_campaign_daily", "Runbook"]
    assert found["Run"] == f"{UI}/runs/run-7"
    assert found["agg_campaign_daily"] == f"{UI}/assets/marts/agg_campaign_daily"


def test_a_dbt_of_which_no_build_is_known_links_the_newest_one_that_dagster_knows_to_have_failed() -> None:
    assert links(components.components(dbt()))["Run"] == f"{UI}/runs/newer"
    assert "Run" not in links(components.components(replace(dbt(), events=Events())))


def test_old_dashboards_are_linked() -> None:
    state = component(Component.DASHBOARDS, "stale")
    found = links(components.components(replace(FACTS, components={Component.DASHBOARDS: state})))
    assert found["Spend"] == "https://bi.example.com/spend"


def test_a_night_that_was_not_done_links_its_job_and_one_without_rows_the_dashboards_too() -> None:
    found = {each.rule: each.links for each in data.night(replace(FACTS, night=NightDone(expected=True))).findings}
    job = Link("Job", f"{UI}/locations/pipelines/jobs/dbt_nightly")
    assert [link.label for link in found["nightly_late"]] == ["Job", "Runbook"]
    assert [link.label for link in found["no_fresh_rows"]] == ["Job", "Spend", "Runbook"]
    assert all(each[0] == job for each in found.values())


def test_errors_of_one_connection_link_its_partition() -> None:
    errors = SyncErrors(ACME.id, Provider.META, 9, NOON, KEY)
    found = links(connections.sync_errors(replace(FACTS, sync_errors=[errors])))
    assert found["Partition"] == PLACES.links.partition(Provider.META, KEY)
    several = replace(FACTS, sync_errors=[replace(errors, partition=None)])
    assert list(links(connections.sync_errors(several))) == ["Runbook"]
