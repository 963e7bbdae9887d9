"""The pages to which alerts link on a laptop: a connection's jobs with their reasons, a dashboard's name."""

from __future__ import annotations

import httpx

from adinsights_orchestration.local.airbyte.auth import Gate
from adinsights_orchestration.local.airbyte.model import ConfigType
from adinsights_orchestration.local.front import create_superset_app
from adinsights_orchestration.local.knobs import Knobs
from adinsights_orchestration.local.serving import running
from tests.local.airbyte_support import SYNC_TIME, TRANSIENT, AirbyteServer, airbyte_server, failing


def _page(server: AirbyteServer, path: str) -> httpx.Response:
    return httpx.get(f"{server.url}{path}")


def test_a_connection_s_page_shows_its_jobs_and_of_the_one_that_is_asked_for_why_it_failed() -> None:
    gate = Gate("someone", "a secret")
    with airbyte_server(gate=gate, script=failing(TRANSIENT)) as server:
        timeline = f"/workspaces/{server.workspace_id}/connections/{server.connection.id}/timeline"
        assert "It has not synced yet." in _page(server, timeline).text, "people need no token"
        assert httpx.get(f"{server.url}/api/public/v1/jobs").status_code == 401
        job = server.world.start(server.connection.id, ConfigType.SYNC)
        server.clock.advance(SYNC_TIME.total_seconds() * 100)
        shown = _page(server, f"{timeline}?openLogs=true&jobId={job.id}").text
        assert f"Job {job.id}: sync, succeeded, " in shown
        assert "Attempt 1, failed: The platform is busy.\nHTTP 500 three times" in shown
        assert "The platform is busy." not in _page(server, timeline).text, "it was not asked for"


def test_what_is_no_connection_has_no_page(airbyte: AirbyteServer) -> None:
    workspace, connection = airbyte.workspace_id, airbyte.connection.id
    for name in ("5e0c1f3a-0000-4000-8000-000000000000", "x"):
        assert _page(airbyte, f"/workspaces/{workspace}/connections/{name}/timeline").status_code == 404
        assert _page(airbyte, f"/workspaces/{name}/connections/{connection}/timeline").status_code == 404


def test_an_address_without_its_workspace_leads_to_the_start_page(airbyte: AirbyteServer) -> None:
    assert _page(airbyte, f"/connections/{airbyte.connection.id}/timeline").text.startswith("Airbyte (local")


def test_a_dashboard_has_a_page_that_says_which_it_is_and_shows_a_name_as_text() -> None:
    with running(create_superset_app(Knobs())) as url:
        assert "<h1>Campaign pacing</h1>" in httpx.get(f"{url}/superset/dashboard/campaign-pacing/").text
        assert "<b>" not in httpx.get(f"{url}/superset/dashboard/%3Cb%3E/").text
