"""The doctor looks at Dagster's webserver, with a login in front of it and without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route

from adinsights_orchestration.doctor.model import Status
from adinsights_orchestration.local.serving import running
from tests.doctor.conftest import Surroundings


@contextmanager
def webserver() -> Iterator[str]:
    """Dagster's webserver, as far as the doctor asks it."""
    names = ("pipelines", "monitoring")
    entries = [{"name": name, "locationOrLoadError": {"__typename": "RepositoryLocation"}} for name in names]
    workspace = {"data": {"workspaceOrError": {"__typename": "Workspace", "locationEntries": entries}}}

    async def info(_: Request) -> JSONResponse:
        return JSONResponse({"dagster_version": "1.2.3"})

    async def graphql(_: Request) -> JSONResponse:
        return JSONResponse(workspace)

    with running(Starlette(routes=[Route("/server_info", info), Route("/graphql", graphql, methods=["POST"])])) as url:
        yield url


@contextmanager
def login() -> Iterator[str]:
    """A proxy that asks everybody to sign in."""

    async def page(_: Request) -> HTMLResponse:
        return HTMLResponse("<html>Sign in</html>")

    with running(Starlette(routes=[Route("/{anything:path}", page, methods=["GET", "POST"])])) as url:
        yield url


def test_dagster_behind_a_login_is_asked_at_its_own_address(around: Surroundings) -> None:
    with webserver() as own, login() as shown:
        one_for_both = around.with_group("dagster", ui_url=shown)
        found = one_for_both.results("dagster ui", "code locations")
        assert found["dagster ui"].status is Status.FAIL
        assert "ADINSIGHTS_DAGSTER__API_URL" in found["dagster ui"].next_step
        assert found["code locations"].status is Status.SKIPPED
        results = one_for_both.with_group("dagster", api_url=own).results("dagster ui", "code locations")
    assert {name: result.status for name, result in results.items()} == dict.fromkeys(results, Status.OK), results
