"""Dashboards as assets: at the end of the lineage, with an owner and a link, built by nobody."""

from __future__ import annotations

from typing import Any

import dagster as dg

from adinsights_orchestration.bi.exposures import build_exposures
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.transformation.project import Project


def _project(**exposure: Any) -> Project:
    model = {"resource_type": "model", "name": "fct", "fqn": ["p", "marts", "fct"], "config": {}}
    props = {
        "name": "spend",
        "label": "Spend",
        "type": "dashboard",
        "resource_type": "exposure",
        "description": "Spend per region.",
        "owner": {"name": "Marketing Operations", "email": "marketing-ops@example.com"},
        "depends_on": {"nodes": ["model.p.fct", "metric.p.ctr"]},
        "config": {"meta": {}},
        **exposure,
    }
    return Project(
        {
            "metadata": {"project_name": "p"},
            "nodes": {"model.p.fct": model},
            "sources": {},
            "exposures": {"exposure.p.spend": props},
            "child_map": {},
        }
    )


def _only(project: Project) -> dg.AssetSpec:
    [spec] = build_exposures(Settings(), project)
    return spec


def test_a_dashboard_is_downstream_of_the_marts_that_it_shows() -> None:
    spec = _only(_project())
    assert spec.key == dg.AssetKey(["superset", "spend"])
    assert [dep.asset_key for dep in spec.deps] == [dg.AssetKey(["marts", "fct"])]


def test_it_says_what_it_is_whose_it_is_and_whom_to_tell() -> None:
    spec = _only(_project())
    assert (spec.group_name, spec.kinds) == ("bi", {"superset", "dashboard"})
    assert spec.owners == ["marketing-ops@example.com"]
    assert spec.description == "Spend per region.\n\n**When it is late:** tell Marketing Operations."


def test_it_links_the_dashboard_and_the_runbook() -> None:
    url = "https://superset.example.com/superset/dashboard/spend/"
    metadata = _only(_project(url=url, maturity="high")).metadata
    assert metadata["dashboard"].value == url
    assert metadata["maturity"].value == "high"
    assert metadata["runbook"].value.startswith(Settings().runbook_url)


def test_a_path_below_superset_s_address_is_shown_where_no_address_is_known() -> None:
    meta = {"superset": {"path": "/superset/dashboard/spend/"}}
    metadata = _only(_project(config={"meta": meta})).metadata
    assert metadata["Superset path"].value == "/superset/dashboard/spend/"
    assert "dashboard" not in metadata


def test_it_names_the_providers_that_feed_it() -> None:
    metadata = _only(_project(config={"meta": {"providers": ["meta", "google_ads"]}})).metadata
    assert metadata["providers"].value == "meta, google_ads"
    assert "providers" not in _only(_project()).metadata


def test_the_project_may_choose_the_key_and_the_owners() -> None:
    meta = {"dagster": {"asset_key": ["superset", "spend_v2"], "owners": ["team:bi"]}}
    spec = _only(_project(config={"meta": meta}))
    assert spec.key == dg.AssetKey(["superset", "spend_v2"])
    assert spec.owners == ["team:bi"]


def test_an_exposure_with_the_least_that_dbt_asks_for_is_an_asset_too() -> None:
    spec = _only(_project(label=None, description="", owner={"name": "Somebody"}))
    assert spec.description == "spend\n\n**When it is late:** tell Somebody."
    assert spec.owners == []
