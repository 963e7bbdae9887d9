"""Whose failure it is, and what is built again without them."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from adinsights_orchestration.tenants.model import Provider
from adinsights_orchestration.transformation.events import once_each
from adinsights_orchestration.transformation.isolation import SecondPass, second_pass
from adinsights_orchestration.transformation.project import Project
from adinsights_orchestration.transformation.run_results import parse_artifact
from tests.transformation.test_run_results import artifact, result

META, GOOGLE = Provider.META, Provider.GOOGLE_ADS
FCT, AGG = "model.fixture.fct_spend", "model.fixture.agg_region_spend"


def _second(project: Project, left_out: Set[Provider] = frozenset(), **statuses: str) -> SecondPass | None:
    named = {uid.split(".")[2]: uid for uid in (*project.nodes, *project.tests)}
    results = [result(named[name], status) for name, status in statuses.items()]
    return second_pass(project, parse_artifact(artifact(*results)), left_out)


def test_a_build_without_a_failure_needs_no_second_pass(project: Project) -> None:
    assert _second(project, fct_spend="success", stg_meta__ads="success") is None


def test_what_was_skipped_is_built_again_without_the_provider_that_failed(project: Project) -> None:
    found = _second(project, stg_meta__ad_insights="error", fct_spend="skipped", agg_region_spend="skipped")
    assert found == SecondPass(frozenset({META}), frozenset({FCT, AGG}))


def test_a_failed_test_of_a_provider_s_own_counts_like_a_failed_model(project: Project) -> None:
    found = _second(project, source_not_null_raw_meta_ad_insights_ad_id="fail", fct_spend="skipped")
    assert found == SecondPass(frozenset({META}), frozenset({FCT}))


def test_a_failure_that_is_shared_is_nobody_s_and_everything_waits_for_people(project: Project) -> None:
    assert _second(project, fct_spend="error", agg_region_spend="skipped") is None
    assert _second(project, not_null_fct_spend_entity_id="fail", agg_region_spend="skipped") is None


def test_a_failure_that_held_up_only_its_own_provider_needs_no_second_pass(project: Project) -> None:
    assert _second(project, stg_meta__ads="error", ads_history="skipped", dim_ads="skipped") is None


def test_a_shared_failure_beside_a_provider_s_own_is_tried_again_before_anything_is_built_on_it(
    project: Project,
) -> None:
    found = _second(project, stg_meta__ads="error", fct_spend="error", agg_region_spend="skipped", dim_ads="skipped")
    assert found == SecondPass(frozenset({META}), frozenset({FCT, AGG}))


def test_when_every_provider_failed_there_is_nobody_to_build_for(project: Project) -> None:
    assert (
        _second(project, stg_meta__ad_insights="error", stg_google_ads__campaign_daily="error", fct_spend="skipped")
        is None
    )
    assert _second(project, {GOOGLE}, stg_meta__ad_insights="error", fct_spend="skipped") is None


def _event(name: str, unique_id: str, status: str) -> dict[str, Any]:
    return {"info": {"name": name, "msg": ""}, "data": {"node_info": {"unique_id": unique_id, "node_status": status}}}


def test_of_two_results_of_one_thing_only_the_first_is_passed_on() -> None:
    test = [_event("LogTestResult", "test.p.t", status) for status in ("fail", "pass")]
    model = [_event("LogModelResult", "model.p.m", status) for status in ("error", "success", "success")]
    other = [_event("LogStartLine", "model.p.m", "started")] * 2
    passed = [(e["info"]["name"], e["data"]["node_info"]["node_status"]) for e in once_each([*test, *model, *other])]
    assert passed == [
        ("LogTestResult", "fail"),
        ("LogModelResult", "error"),
        ("LogModelResult", "success"),
        ("LogStartLine", "started"),
        ("LogStartLine", "started"),
    ]
