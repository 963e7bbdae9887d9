"""Both code locations load in a bare, fresh process with every server down; each without the other."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from adinsights_orchestration.settings import Settings
from adinsights_orchestration.transformation import manifest

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("load.py")
CANARY = "canary-4f1d9c"
SECRETS = {
    "ADINSIGHTS_OPS_STORE__DSN": f"postgresql://adinsights:{CANARY}@127.0.0.1:1/ops",
    "ADINSIGHTS_BACKEND__DSN": f"postgresql://adinsights:{CANARY}@127.0.0.1:1/backend",
    "ADINSIGHTS_BACKEND__WEBHOOK_SECRET": CANARY,
    "ADINSIGHTS_AIRBYTE__CLIENT_ID": "orchestrator",
    "ADINSIGHTS_AIRBYTE__CLIENT_SECRET": CANARY,
    "ADINSIGHTS_WAREHOUSE__PASSWORD": CANARY,
}
PIPELINES, MONITORING, MERGED = (
    "adinsights_orchestration.locations.pipelines",
    "adinsights_orchestration.locations.monitoring",
    "adinsights_orchestration.definitions",
)


@pytest.fixture(scope="module", autouse=True)
def prepared_manifest() -> None:
    """As an image or a clone after the first load has it."""
    manifest.prepare(Settings())


def _load(module: str, home: Path, **environment: str) -> dict[str, Any]:
    """Loads a location in a process that has nothing but a path and a home."""
    command = [sys.executable, str(PROGRAM), module, CANARY]
    bare = {"PATH": "/usr/bin:/bin", "HOME": str(home), **environment}
    done = subprocess.run(command, env=bare, cwd=home, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return _load(PIPELINES, tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def monitoring(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Loaded as staging beside a broken dbt project, to which it must be blind, and with secrets."""
    home = tmp_path_factory.mktemp("home")
    broken = {"ADINSIGHTS_ENVIRONMENT": "staging", "ADINSIGHTS_DBT__PROJECT_DIR": str(home / "nowhere")}
    return _load(MONITORING, home, **broken, **SECRETS)


def test_the_workspace_names_both_locations_by_their_modules() -> None:
    workspace = yaml.safe_load((ROOT / "workspace.yaml").read_text(encoding="utf-8"))
    modules = {
        one["python_module"]["location_name"]: one["python_module"]["module_name"] for one in workspace["load_from"]
    }
    assert modules == {"pipelines": PIPELINES, "monitoring": MONITORING}


def test_pipelines_loads_in_a_bare_process_with_every_server_down(pipelines: dict[str, Any]) -> None:
    assert pipelines["error"] == ""
    assert pipelines["assets"] > 6
    assert "ingestion_observe" in pipelines["sensors"]


def test_monitoring_loads_beside_a_broken_pipelines_location(monitoring: dict[str, Any]) -> None:
    assert monitoring["error"] == ""
    assert {"freshness_evaluate", "health_probe"} <= set(monitoring["sensors"])


def test_a_load_asks_no_server_and_writes_no_file(pipelines: dict[str, Any], monitoring: dict[str, Any]) -> None:
    assert [one["sockets"] for one in (pipelines, monitoring)] == [[], []]
    assert [one["written"] for one in (pipelines, monitoring)] == [[], []]


def test_monitoring_imports_neither_dbt_nor_the_pipelines(monitoring: dict[str, Any]) -> None:
    domains = ("ingestion", "transformation", "bi", "tenants.automation", "upkeep", "local", "locations.pipelines")
    unwanted = ("dbt", "dagster_dbt", "dagster_airbyte", *(f"adinsights_orchestration.{one}" for one in domains))
    imported = [name for name in monitoring["modules"] if name.startswith(tuple(f"{one}." for one in unwanted))]
    assert [*imported, *set(unwanted).intersection(monitoring["modules"])] == []


def test_pipelines_loads_without_what_only_the_archive_s_runs_need(pipelines: dict[str, Any]) -> None:
    assert {"pyarrow", "duckdb", "numpy"}.intersection(pipelines["modules"]) == set()


def test_nothing_of_the_local_stack_is_imported_by_pipelines(pipelines: dict[str, Any]) -> None:
    assert [name for name in pipelines["modules"] if name.startswith("adinsights_orchestration.local")] == []


def test_both_locations_merge_into_one_whose_snapshot_holds_no_secret(
    pipelines: dict[str, Any], tmp_path: Path
) -> None:
    merged = _load(MERGED, tmp_path, **SECRETS)
    assert merged["error"] == ""
    assert merged["assets"] >= pipelines["assets"]
    assert {*pipelines["sensors"], "overview_publish"} <= set(merged["sensors"])
    assert merged["size"] > 10_000
    assert merged["leaks"] is False


def test_a_broken_dbt_project_is_an_error_that_says_what_to_run(tmp_path: Path) -> None:
    broken = {"ADINSIGHTS_ENVIRONMENT": "staging", "ADINSIGHTS_DBT__PROJECT_DIR": str(tmp_path / "nowhere")}
    found = _load(PIPELINES, tmp_path, **broken)
    assert found["error"].startswith("ConfigurationError: ")
    assert "adinsights dbt prepare" in found["error"]
