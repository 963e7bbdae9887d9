"""The dbt project as a graph: which provider is upstream of what, where a test belongs, what keys are made of."""

from __future__ import annotations

from typing import Any

from adinsights_orchestration.tenants.model import Provider
from adinsights_orchestration.transformation.project import Project

META, GOOGLE = Provider.META, Provider.GOOGLE_ADS


def _names(unique_ids: Any) -> set[str]:
    return {unique_id.split(".")[2] for unique_id in unique_ids}


def _node(name: str, *parents: str, kind: str = "model", **props: Any) -> dict[str, Any]:
    return {
        "unique_id": f"{kind}.p.{name}",
        "resource_type": kind,
        "name": name,
        "fqn": ["p", "marts", name],
        "config": {},
        "depends_on": {"nodes": list(parents)},
        **props,
    }


def _project(*nodes: dict[str, Any], sources: tuple[str, ...] = ()) -> Project:
    children: dict[str, list[str]] = {}
    for node in nodes:
        for parent in node["depends_on"]["nodes"]:
            children.setdefault(parent, []).append(node["unique_id"])
    return Project(
        {
            "metadata": {"project_name": "p"},
            "nodes": {node["unique_id"]: node for node in nodes},
            "sources": {uid: {"resource_type": "source", "source_name": "s", "name": uid} for uid in sources},
            "exposures": {},
            "child_map": children,
        }
    )


def test_a_provider_s_sources_are_found_by_the_asset_they_map_to(project: Project) -> None:
    assert project.providers == {
        GOOGLE: ("source.fixture.raw_google_ads.campaign_daily",),
        META: ("source.fixture.raw_meta.ad_insights", "source.fixture.raw_meta.ads"),
    }


def test_downstream_of_a_provider_is_all_that_reads_it_directly_or_not(project: Project) -> None:
    assert _names(project.downstream_of([GOOGLE])) == {
        "stg_google_ads__campaign_daily",
        "fct_spend",
        "agg_region_spend",
    }
    assert _names(project.downstream_of([META])) == {
        *("stg_meta__ad_insights", "stg_meta__ads", "ads_history", "dim_ads", "fct_spend", "agg_region_spend"),
    }


def test_downstream_of_two_providers_is_what_is_downstream_of_either(project: Project) -> None:
    both = project.downstream_of([META, GOOGLE])
    assert both == project.downstream_of([META]) | project.downstream_of([GOOGLE])
    assert _names(project.nodes.keys() - both) == {"regions"}


def test_a_seed_has_no_provider_and_the_shared_fact_has_both(project: Project) -> None:
    assert project.upstream_providers["seed.fixture.regions"] == frozenset()
    assert project.upstream_providers["model.fixture.fct_spend"] == {META, GOOGLE}
    assert project.upstream_providers["snapshot.fixture.ads_history"] == {META}


def test_keys_are_the_layer_and_the_name(project: Project) -> None:
    assert {uid.split(".")[2]: project.key_path(uid) for uid in project.nodes} == {
        "regions": ("seeds", "regions"),
        "ads_history": ("snapshots", "ads_history"),
        "stg_meta__ads": ("staging", "stg_meta__ads"),
        "stg_meta__ad_insights": ("staging", "stg_meta__ad_insights"),
        "stg_google_ads__campaign_daily": ("staging", "stg_google_ads__campaign_daily"),
        "fct_spend": ("marts", "fct_spend"),
        "agg_region_spend": ("marts", "agg_region_spend"),
        "dim_ads": ("marts", "dim_ads"),
    }


def test_a_source_s_key_is_the_one_that_the_project_gives_it(project: Project) -> None:
    assert project.key_path("source.fixture.raw_meta.ads") == ("airbyte", "meta")


def test_dashboards_of_a_node_are_those_anywhere_downstream(project: Project) -> None:
    assert [e["name"] for e in project.dashboards_of("model.fixture.stg_meta__ad_insights")] == ["spend_dashboard"]
    assert project.dashboards_of("model.fixture.dim_ads") == []


def test_a_test_of_a_raw_table_stands_on_the_first_node_that_reads_it(project: Project) -> None:
    [test] = project.source_tests
    assert project.tests[test]["name"] == "source_not_null_raw_meta_ad_insights_ad_id"
    assert project.checked_nodes[test] == "model.fixture.stg_meta__ad_insights"


def test_tests_of_whole_tables_are_the_nightly_build_s(project: Project) -> None:
    assert {project.tests[uid]["name"] for uid in project.nightly_tests} == {"spend_was_always_positive"}


def test_every_data_test_has_a_node_and_no_unit_test_is_among_them(project: Project) -> None:
    assert project.checked_nodes.keys() == project.tests.keys()
    assert all(uid.startswith("test.") for uid in project.tests)


def test_a_test_of_several_nodes_stands_on_the_one_furthest_downstream() -> None:
    project = _project(
        _node("stg"),
        _node("fct", "model.p.stg"),
        _node("totals", "model.p.fct", "model.p.stg", kind="test"),
    )
    assert project.checked_nodes == {"test.p.totals": "model.p.fct"}


def test_a_test_that_names_its_node_stands_there() -> None:
    named = {"meta": {"dagster": {"ref": {"name": "stg"}}}}
    project = _project(
        _node("stg"),
        _node("fct", "model.p.stg"),
        _node("totals", "model.p.fct", "model.p.stg", kind="test", config=named),
    )
    assert project.checked_nodes == {"test.p.totals": "model.p.stg"}


def test_a_test_of_nothing_that_is_built_has_no_node() -> None:
    project = _project(_node("orphans", "source.p.s.unread", kind="test"), sources=("source.p.s.unread",))
    assert project.checked_nodes == {}


def test_what_an_ephemeral_model_passes_on_still_belongs_to_the_provider() -> None:
    ephemeral = _node("cleaned", "source.p.raw", config={"materialized": "ephemeral"})
    project = _project(ephemeral, _node("fct", "model.p.cleaned"), sources=("source.p.raw",))
    raw = project.sources["source.p.raw"]
    raw["config"] = {"meta": {"dagster": {"asset_key": ["airbyte", "meta"]}}}  # type: ignore[index]
    assert project.downstream_of([META]) == {"model.p.fct"}


def test_the_names_for_selection_are_dbt_s_own(project: Project) -> None:
    assert project.fqns["model.fixture.stg_meta__ads"] == "fixture.staging.meta.stg_meta__ads"
    assert project.fqns["snapshot.fixture.ads_history"] == "fixture.ads_history"
