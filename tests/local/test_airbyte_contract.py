"""Requests and replies of the local Airbyte against Airbyte's own OpenAPI document, where the machine has it.

The document is not ours to ship: ADINSIGHTS_AIRBYTE_SPEC names it, or it lies beside the checkout. Without it these
tests are skipped.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from openapi_core import Config, OpenAPI
from openapi_core.datatypes import RequestParameters
from openapi_core.exceptions import OpenAPIError
from werkzeug.datastructures import Headers, ImmutableMultiDict

from adinsights_orchestration.settings import PROJECT_ROOT
from tests.local.airbyte_support import MISCONFIGURED, TRANSIENT, AirbyteServer, airbyte_server, failing

_NAME = "orchestrator_subset.yaml"
_CANDIDATES = (PROJECT_ROOT.parent / "shared" / "airbyte" / _NAME, PROJECT_ROOT.parent / "airbyte" / _NAME)


def _document() -> Path | None:
    named = os.environ.get("ADINSIGHTS_AIRBYTE_SPEC")
    return next((path for path in ([Path(named)] if named else _CANDIDATES) if path.is_file()), None)


@pytest.fixture(scope="module")
def spec() -> OpenAPI:
    path = _document()
    if path is None:
        pytest.skip("Airbyte's OpenAPI document is not on this machine")
    document = yaml.safe_load(path.read_text())
    # The document requires `json_schema` of a stream and forbids it: only `jsonSchema` is a known property.
    document["components"]["schemas"]["AirbyteStream"]["required"] = ["name", "jsonSchema"]
    # It requires grant_type of a token request and declares `grant-type`.
    document["components"]["schemas"]["ApplicationTokenRequestWithGrant"]["required"] = ["client_id", "client_secret"]
    document["servers"] = [{"url": "http://airbyte.test/api"}]
    return OpenAPI.from_dict(document, config=Config())


class _Request:
    """A sent request, as openapi-core wants to see one."""

    host_url = "http://airbyte.test"

    def __init__(self, request: httpx.Request) -> None:
        self.path = request.url.path
        self.method = request.method.lower()
        self.body = request.read() or None
        self.content_type = request.headers.get("content-type", "").partition(";")[0]
        self.parameters = RequestParameters(
            query=ImmutableMultiDict(request.url.params.multi_items()),
            header=Headers(request.headers.multi_items()),
            cookie=ImmutableMultiDict(),
        )


class _Response:
    """A received reply, as openapi-core wants to see one."""

    def __init__(self, response: httpx.Response) -> None:
        self.data = response.content
        self.status_code = response.status_code
        self.content_type = response.headers.get("content-type", "").partition(";")[0]
        self.headers = Headers(response.headers.multi_items())


class Recorder:
    """Validates every exchange with the server it belongs to."""

    def __init__(self, spec: OpenAPI) -> None:
        self._spec = spec
        self.seen: set[tuple[str, str]] = set()

    def check(self, response: httpx.Response) -> None:
        response.read()
        request = _Request(response.request)
        self.seen.add((request.method, request.path))
        if response.is_success:
            self._spec.validate_request(request)
            self._spec.validate_response(request, _Response(response))


Checked = tuple[AirbyteServer, Recorder]


@pytest.fixture
def checked(spec: OpenAPI) -> Iterator[Checked]:
    recorder = Recorder(spec)
    with airbyte_server(failing(TRANSIENT, MISCONFIGURED), slots=1) as server:
        server.client.event_hooks["response"].append(recorder.check)
        yield server, recorder


def lifecycle(server: AirbyteServer) -> Iterator[None]:
    """One job through every state: running, incomplete, running, failed; a second one pending, then cancelled."""
    server.start()
    server.start(server.add_connection())
    yield
    for seconds in (31, 11, 31, 600):
        server.clock.advance(seconds)
        yield
    server.public("DELETE", "/jobs/2")
    yield


def test_the_public_api_answers_as_the_document_says_in_every_state(checked: Checked) -> None:
    server, recorder = checked
    for _ in lifecycle(server):
        server.public("GET", "/jobs")
        server.public("GET", "/jobs", params={"limit": 1, "offset": 1, "orderBy": "updatedAt|DESC", "status": "failed"})
        server.public("GET", f"/jobs?connectionId={server.connection.id}&createdAtStart=2026-03-02T14:00:00Z")
        server.public("GET", "/jobs/1")
        server.public("GET", "/jobs/2")
    assert ("delete", "/api/public/v1/jobs/2") in recorder.seen


def test_resources_of_the_public_api_are_as_the_document_says(checked: Checked) -> None:
    server, _ = checked
    server.public("GET", "/health")
    server.client.post(f"{server.url}/api/public/v1/applications/token", json={"client_id": "a", "client_secret": "b"})
    workspace = server.public("POST", "/workspaces", json={"name": "New"}).json()["workspaceId"]
    server.public("PATCH", f"/workspaces/{workspace}", json={"name": "Newer"})
    common: dict[str, Any] = {"name": "x", "workspaceId": workspace}
    source = server.public("POST", "/sources", json={**common, "configuration": {"sourceType": "google-ads"}}).json()
    target = server.public("POST", "/destinations", json={**common, "configuration": {}}).json()
    pair = {"sourceId": source["sourceId"], "destinationId": target["destinationId"]}
    made = server.public("POST", "/connections", json=pair).json()["connectionId"]
    server.public("PATCH", f"/connections/{made}", json={"status": "inactive", "name": "Renamed"})
    for path in (f"/sources/{source['sourceId']}", f"/destinations/{target['destinationId']}"):
        server.public("PATCH", path, json={"name": "y"})
        server.public("PUT", path, json={"name": "z", "configuration": {}})
        server.public("GET", path)
    for path in ("/workspaces", "/sources", "/destinations", "/connections", f"/connections/{server.connection.id}"):
        server.public("GET", path)
    server.public("GET", f"/streams?sourceId={server.connection.source_id}")
    server.public("DELETE", f"/connections/{made}")
    server.public("DELETE", f"/sources/{source['sourceId']}")
    server.public("DELETE", f"/destinations/{target['destinationId']}")
    server.public("DELETE", f"/workspaces/{workspace}")


def config_calls(server: AirbyteServer) -> dict[str, dict[str, Any]]:
    connection, workspace = {"connectionId": str(server.connection.id)}, {"workspaceId": str(server.workspace_id)}
    types = {"configTypes": ["sync", "reset_connection"]}
    return {
        "/connections/get": connection,
        "/connections/list": workspace,
        "/connections/status": {"connectionIds": [str(server.connection.id)]},
        "/connections/last_job_per_stream": connection,
        "/connections/sync_progress": connection,
        "/jobs/list": {**types, "configId": str(server.connection.id)},
        "/jobs/list_for_workspaces": {**types, "workspaceIds": [str(server.workspace_id)], "statuses": ["failed"]},
        "/jobs/get_light": {"id": 1},
        "/jobs/get_without_logs": {"id": 1},
        "/jobs/get_debug_info": {"id": 1},
        "/attempt/get_for_job": {"jobId": 1, "attemptNumber": 0},
        "/attempt/get_combined_stats": {"jobId": 1, "attemptNumber": 0},
        "/stream_statuses/list": {**workspace, "jobId": 1, "pagination": {"pageSize": 10, "rowOffset": 0}},
        "/state/get": connection,
    }


def test_the_configuration_api_answers_as_the_document_says_in_every_state(checked: Checked) -> None:
    server, _ = checked
    server.client.get(f"{server.url}/api/v1/health")
    server.config("/applications/token", {"client_id": "a", "client_secret": "b"})
    for _ in lifecycle(server):
        for path, body in config_calls(server).items():
            assert server.config(path, body).is_success, path


def test_starting_and_cancelling_in_the_configuration_api_are_as_the_document_says(checked: Checked) -> None:
    server, _ = checked
    assert server.config("/connections/sync", {"connectionId": str(server.connection.id)}).is_success
    assert server.config("/jobs/cancel", {"id": 1}).is_success


def test_a_reply_that_does_not_fit_is_noticed(spec: OpenAPI) -> None:
    request = httpx.Request("GET", "http://airbyte.test/api/public/v1/jobs/1")
    wrong = httpx.Response(200, json={"jobId": "one", "status": "done"}, request=request)
    with pytest.raises(OpenAPIError):
        Recorder(spec).check(wrong)
