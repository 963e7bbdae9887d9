"""What the doctor says of code locations, by what Dagster's webserver answers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adinsights_orchestration.doctor.checks import dagster
from adinsights_orchestration.doctor.model import Status
from adinsights_orchestration.doctor.world import World
from adinsights_orchestration.local.serving import running
from adinsights_orchestration.settings import Settings

LOADED = {"loadStatus": "LOADED", "locationOrLoadError": {"__typename": "RepositoryLocation"}}
LOADING = {"loadStatus": "LOADING", "locationOrLoadError": None}
BROKEN = {
    "loadStatus": "LOADED",
    "locationOrLoadError": {
        "__typename": "PythonError",
        "message": "DagsterUserCodeLoadError",
        "causes": [{"message": "RuntimeError: the manifest is missing\n  more"}],
    },
}


@pytest.mark.parametrize(
    ("entries", "status", "said"),
    [
        ({"pipelines": LOADED, "monitoring": LOADED}, Status.OK, "pipelines, monitoring are loaded"),
        ({"pipelines": BROKEN, "monitoring": LOADED}, Status.FAIL, "pipelines: RuntimeError: the manifest is missing"),
        ({"pipelines": LOADING, "monitoring": LOADED}, Status.WARN, "still loading: pipelines"),
        ({"monitoring": LOADED}, Status.WARN, "does not name pipelines"),
        (None, Status.SKIPPED, "does not answer"),
    ],
)
def test_a_location_is_told_as_the_webserver_sees_it(
    entries: dict[str, dict[str, Any]] | None, status: Status, said: str
) -> None:
    async def graphql(_: Request) -> Response:
        if entries is None:
            return JSONResponse({"data": {"workspaceOrError": {"__typename": "PythonError", "message": "no"}}})
        listed = [{"name": name, **entry} for name, entry in entries.items()]
        return JSONResponse({"data": {"workspaceOrError": {"__typename": "Workspace", "locationEntries": listed}}})

    with running(Starlette(routes=[Route("/graphql", graphql, methods=["POST"])])) as url:
        settings = Settings()
        served = settings.model_copy(update={"dagster": settings.dagster.model_copy(update={"ui_url": url})})
        verdict = dagster.locations(World(served, {}, datetime.now(UTC)))
    assert verdict.status is status
    assert said in verdict.detail
