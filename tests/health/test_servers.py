"""Probes of servers that answer more than a line: Dagster's real webserver, and Prometheus' query API."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.test_utils import instance_for_test
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster_webserver.app import create_app_from_workspace_process_context
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adinsights_orchestration.health.model import Component, Health
from adinsights_orchestration.local.serving import running
from tests.conftest import PostgresServer, dagster_instance_on
from tests.health.world import Platform

GOOD = "import dagster as dg\ndefs = dg.Definitions()\n"
BROKEN = 'raise RuntimeError("the manifest is missing; password=hunter2-canary")\n'


@contextmanager
def webserver(folder: Path, **locations: str) -> Iterator[str]:
    """Dagster's own webserver over these code locations."""
    workspace = "load_from:\n"
    for name, code in locations.items():
        (folder / f"{name}_location.py").write_text(code)
        workspace += textwrap.indent(
            f"- python_file: {{relative_path: {name}_location.py, location_name: {name}}}\n", "  "
        )
    (folder / "workspace.yaml").write_text(workspace)
    with (
        instance_for_test() as instance,
        WorkspaceProcessContext(instance, WorkspaceFileTarget([str(folder / "workspace.yaml")])) as context,
        running(create_app_from_workspace_process_context(context)) as url,
    ):
        yield url


@pytest.mark.parametrize(
    ("locations", "health", "state"),
    [
        ({"pipelines": GOOD, "monitoring": GOOD}, Health.OK, "ok"),
        ({"pipelines": BROKEN, "monitoring": GOOD}, Health.DOWN, "load_error"),
        ({"monitoring": GOOD}, Health.DOWN, "missing"),
    ],
)
def test_code_locations_are_what_dagster_s_webserver_says(
    world: Platform, tmp_path: Path, locations: dict[str, str], health: Health, state: str
) -> None:
    with webserver(tmp_path, **locations) as url:
        world.move("dagster", ui_url=url)
        reading = world.probe(Component.CODE_LOCATIONS)
    assert (reading.health, reading.state) == (health, state)
    assert "hunter2" not in repr(reading)
    if state == "load_error":
        assert "pipelines (" in reading.detail
        assert "the manifest is missing" in reading.detail


def test_the_webserver_is_asked_at_its_own_address_where_people_pass_a_login(world: Platform, tmp_path: Path) -> None:
    with webserver(tmp_path, pipelines=GOOD, monitoring=GOOD) as url:
        world.move("dagster", ui_url="http://127.0.0.1:9", api_url=f"{url}/")
        assert world.probe(Component.CODE_LOCATIONS).health is Health.OK


@contextmanager
def prometheus(*values: Any, status: int = 200) -> Iterator[str]:
    """A server with Prometheus' query API that answers the two queries with these values."""
    asked: list[str] = []

    async def query(request: Request) -> Response:
        text = request.query_params["query"]
        asked.append(text)
        value = values[1 if "=~" in text else 0]
        if status != 200:
            return JSONResponse({"status": "error", "errorType": "bad_data", "error": "x"}, status_code=status)
        result = [] if value is None else [{"metric": {}, "value": [1, str(value)]}]
        return JSONResponse({"status": "success", "data": {"resultType": "vector", "result": result}})

    with running(Starlette(routes=[Route("/api/v1/query", query)])) as url:
        yield url
    assert len(asked) >= 2


def test_the_error_rate_is_asked_of_prometheus_where_there_is_one(world: Platform) -> None:
    with prometheus(1000, 30) as url:
        world.change(prometheus_url=url)
        reading = world.probe(Component.API)
    assert (reading.health, reading.state, reading.value) == (Health.DEGRADED, "errors", 3.0)
    assert reading.facts["source"] == "prometheus"


def test_without_a_series_of_errors_there_were_none(world: Platform) -> None:
    with prometheus(1000, None) as url:
        world.change(prometheus_url=url)
        reading = world.probe(Component.API)
    assert (reading.health, reading.value) == (Health.OK, 0.0)


@pytest.mark.parametrize(("values", "status"), [((None, None), 200), ((1, 1), 400)])
def test_a_prometheus_that_knows_nothing_is_passed_over_and_named(
    world: Platform, values: tuple[Any, Any], status: int
) -> None:
    memory: dict[str, Any] = {}
    with prometheus(*values, status=status) as url:
        world.change(prometheus_url=url)
        world.probe(Component.API, memory)
        world.clock.advance(30)
        reading = world.probe(Component.API, memory)
    assert reading.facts["source"] == "counters"
    assert reading.facts["sources_without_data"][0].startswith("Prometheus: ")


def test_a_component_s_check_is_written_any_number_of_times_on_postgres(
    world: Platform, postgres_server: PostgresServer
) -> None:
    """Dagster counts all evaluations without a run as one; ours carry a run id of their own."""
    with dagster_instance_on(postgres_server) as instance:
        world.instance = instance
        world.round()
        world.knob("superset", "down")
        world.round(after=timedelta(seconds=30))
        key = dg.AssetCheckKey(dg.AssetKey(["health", "superset"]), "healthy")
        records = instance.event_log_storage.get_asset_check_execution_history(key, limit=10)
        latest = instance.event_log_storage.get_latest_asset_check_execution_by_key([key])[key]
    assert [record.status.value for record in records] == ["FAILED", "SUCCEEDED"]
    assert latest.status.value == "FAILED"
