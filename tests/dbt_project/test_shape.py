"""What must hold of every node of the project, read from its manifest: no database takes part.

A new model without an owner, a description or a grain is caught here, by name.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from adinsights_orchestration.tenants.model import Provider
from tests.dbt_project.project import PROJECT_FOLDER, DbtProject

Node = dict[str, Any]
HOURS = {"hour": 1, "day": 24}

# PRODUCT.md: source freshness, in hours (warn, error). Meta's dimensions sync daily and have limits of their own.
FRESHNESS = {
    "raw_meta": (2, 4),
    "raw_google_ads": (2, 4),
    "raw_ga4": (12, 24),
    "raw_search_console": (24, 48),
    "raw_tiktok_ads": (48, 120),
    "raw_linkedin_ads": (168, 336),
}
DAILY = {"raw_meta.campaigns", "raw_meta.adsets", "raw_meta.ads"}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The manifest of a parse with every warning an error, in a process without a single variable of ours."""
    target = tmp_path_factory.mktemp("parsed")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ADINSIGHTS_", "DBT_"))}
    program = str(Path(sys.executable).parent / "dbt")
    finished = subprocess.run(
        [program, "--warn-error", "parse", "--target-path", str(target), "--log-path", str(target)],
        cwd=PROJECT_FOLDER,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout
    return DbtProject(PROJECT_FOLDER, {}, target).manifest()


def _built(manifest: dict[str, Any]) -> dict[str, Node]:
    kinds = ("model", "seed", "snapshot")
    return {node["name"]: node for node in manifest["nodes"].values() if node["resource_type"] in kinds}


def _tests_of(manifest: dict[str, Any], kind: str) -> dict[str, list[Node]]:
    """Generic tests of a kind by the name of the node that they are attached to."""
    found: dict[str, list[Node]] = {}
    for node in manifest["nodes"].values():
        if node["resource_type"] == "test" and (node.get("test_metadata") or {}).get("name") == kind:
            found.setdefault(str(node["attached_node"]).split(".")[-1], []).append(node)
    return found


def _runbook_sections() -> set[str]:
    """The anchors of the runbook's headings, as Markdown renderers make them."""
    headings = re.findall(r"^#+ (.+)$", (PROJECT_FOLDER.parent / "docs" / "runbook.md").read_text(), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_model_and_column_is_described(manifest: dict[str, Any]) -> None:
    nodes = {**_built(manifest), **{node["unique_id"]: node for node in manifest["sources"].values()}}
    undescribed = [name for name, node in nodes.items() if not node["description"].strip()]
    undescribed += [
        f"{name}.{column}"
        for name, node in nodes.items()
        for column, content in node["columns"].items()
        if not content["description"].strip()
    ]
    undescribed += [node["name"] for node in manifest["exposures"].values() if not node["description"].strip()]

    assert undescribed == []
    assert [name for name, node in nodes.items() if not node["columns"]] == []


def test_every_mart_says_what_happens_when_it_is_late(manifest: dict[str, Any]) -> None:
    marts = {name: node for name, node in _built(manifest).items() if node["fqn"][1] in ("marts", "staging")}

    assert [name for name, node in marts.items() if " late" not in node["description"]] == []


def test_every_node_carries_what_dagster_reads(manifest: dict[str, Any]) -> None:
    for name, node in _built(manifest).items():
        found = node["config"]["meta"]["dagster"]
        assert re.fullmatch(r"[a-z_]+", found["group"]), name
        assert all(re.fullmatch(r"[\w.-]+@example\.com", owner) for owner in found["owners"]), name
        assert found["owners"], name
        assert found["runbook"] in _runbook_sections(), name


def test_marts_and_only_marts_have_the_sla_of_dbt_runs(manifest: dict[str, Any]) -> None:
    found = {name: node["config"]["meta"]["dagster"].get("freshness") for name, node in _built(manifest).items()}
    marts = {name for name, node in _built(manifest).items() if node["fqn"][1] == "marts"}

    assert {name for name, sla in found.items() if sla} == marts
    assert all(found[name] == "dbt_run_age" for name in marts)


def test_every_source_table_is_its_providers_asset(manifest: dict[str, Any]) -> None:
    keys = {
        f"{source['source_name']}.{source['name']}": source["config"]["meta"]["dagster"]["asset_key"]
        for source in manifest["sources"].values()
    }

    assert {key[1] for key in keys.values()} == {provider.value for provider in Provider}
    assert all(key == ["airbyte", name.split(".")[0].removeprefix("raw_")] for name, key in keys.items())


def test_source_freshness_is_what_the_product_asks_for(manifest: dict[str, Any]) -> None:
    for source in manifest["sources"].values():
        name = f"{source['source_name']}.{source['name']}"
        warn, error = source["freshness"]["warn_after"], source["freshness"]["error_after"]
        found = (warn["count"] * HOURS[warn["period"]], error["count"] * HOURS[error["period"]])
        assert source["loaded_at_field"] == "_airbyte_extracted_at", name
        assert found == ((26, 50) if name in DAILY else FRESHNESS[source["source_name"]]), name


def test_every_model_is_tested_for_its_grain_and_for_missing_keys(manifest: dict[str, Any]) -> None:
    models = {name for name, node in _built(manifest).items() if node["resource_type"] == "model"}
    grains, keys = _tests_of(manifest, "unique_combination"), _tests_of(manifest, "not_null_columns")

    assert models - set(grains) == set()
    assert models - set(keys) == set()
    for name in models:
        grain = set(grains[name][0]["test_metadata"]["kwargs"]["columns"])
        assert "tenant_id" in grain or name == "int_parish_lookup"
        assert grain <= set(keys[name][0]["test_metadata"]["kwargs"]["columns"]), name


def test_every_snapshot_is_keyed_by_tenant_and_tested_for_overlaps(manifest: dict[str, Any]) -> None:
    snapshots = [node for node in _built(manifest).values() if node["resource_type"] == "snapshot"]

    assert {node["name"] for node in snapshots} == {"snap_campaigns", "snap_adsets", "snap_ads"}
    for node in snapshots:
        (overlaps,) = _tests_of(manifest, "no_overlapping_versions")[node["name"]]
        assert node["config"]["unique_key"][0] == "tenant_id"
        assert overlaps["test_metadata"]["kwargs"]["key"] == node["config"]["unique_key"]


def test_every_metric_has_a_unit_test_with_a_denominator_of_zero(manifest: dict[str, Any]) -> None:
    tests = {test["name"].split("_is_")[0]: test for test in manifest["unit_tests"].values()}

    for metric in ("ctr", "cpc", "cpm", "conversion_rate", "cpa", "roas"):
        expected = [row[metric] for row in tests[metric]["expect"]["rows"]]
        assert None in expected, metric
        assert any(value is not None for value in expected), metric


def test_singular_tests_name_the_asset_that_shows_them(manifest: dict[str, Any]) -> None:
    singular = [
        node
        for node in manifest["nodes"].values()
        if node["resource_type"] == "test" and "test_metadata" not in node and node["language"] == "sql"
    ]

    assert len(singular) >= 4
    for node in singular:
        assert node["config"]["meta"]["dagster"]["ref"]["name"] in _built(manifest), node["name"]


def test_a_dashboard_names_the_providers_that_feed_it(manifest: dict[str, Any]) -> None:
    parents: dict[str, list[str]] = manifest["parent_map"]

    def providers(unique_id: str) -> set[str]:
        if unique_id.startswith("source."):
            return {manifest["sources"][unique_id]["source_name"].removeprefix("raw_")}
        return {found for parent in parents.get(unique_id, []) for found in providers(parent)}

    assert len(manifest["exposures"]) == 5
    for unique_id, exposure in manifest["exposures"].items():
        meta = exposure["config"]["meta"]
        assert set(meta["providers"]) <= providers(unique_id), exposure["name"]
        assert meta["superset"]["path"].startswith("/superset/dashboard/"), exposure["name"]
        assert exposure["owner"]["email"] == "marketing-ops@example.com"
        assert all(parent.split(".")[0] == "model" for parent in parents[unique_id]), exposure["name"]


def test_every_aggregate_is_on_a_dashboard(manifest: dict[str, Any]) -> None:
    shown = {parent for unique_id in manifest["exposures"] for parent in manifest["parent_map"][unique_id]}
    aggregates = {
        node["unique_id"]
        for node in _built(manifest).values()
        if node["name"].startswith(("agg_", "fct_web", "fct_sea"))
    }

    assert aggregates - shown == set()


def test_no_model_knows_a_tenant_variable() -> None:
    files = [
        path for path in PROJECT_FOLDER.rglob("*") if path.suffix in (".sql", ".yml") and "target" not in path.parts
    ]

    assert [path.name for path in files if re.search(r"(env_)?var\(\s*['\"][^'\"]*tenant", path.read_text())] == []


def test_nothing_is_downloaded_and_nothing_is_reported_home() -> None:
    settings = (PROJECT_FOLDER / "dbt_project.yml").read_text()

    assert "send_anonymous_usage_stats: false" in settings
    assert [path.name for path in PROJECT_FOLDER.iterdir() if path.name in ("packages.yml", "dependencies.yml")] == []
