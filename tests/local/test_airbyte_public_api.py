"""The public API over HTTP: what it says, and what it leaves out."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest

from adinsights_orchestration.local.airbyte.auth import Gate
from adinsights_orchestration.local.airbyte.model import AirbyteConnection
from adinsights_orchestration.local.airbyte.simulated import steady
from tests.local.airbyte_support import SYNC_TIME, TRANSIENT, AirbyteServer, airbyte_server, failing

PROBLEM = "application/problem+json"


def ids(reply: httpx.Response) -> list[int]:
    assert reply.status_code == 200, reply.text
    return [job["jobId"] for job in reply.json()["data"]]


def test_a_started_job_is_told_without_an_end(airbyte: AirbyteServer) -> None:
    job = airbyte.start().json()
    assert job == {
        "jobId": 1,
        "status": "running",
        "jobType": "sync",
        "startTime": "2026-03-02T14:00:07Z",
        "connectionId": str(airbyte.connection.id),
        "duration": "PT0S",
    }


def test_a_finished_job_has_its_end_its_duration_and_its_counts(airbyte: AirbyteServer) -> None:
    airbyte.start()
    airbyte.clock.advance(53)
    job = airbyte.public("GET", "/jobs/1").json()
    assert job["status"] == "succeeded"
    assert job["lastUpdatedAt"] == "2026-03-02T14:00:37Z"
    assert job["duration"] == "PT30S"
    assert job["rowsSynced"] == 200
    assert job["bytesSynced"] == 51200


def test_a_waiting_job_has_no_duration() -> None:
    with airbyte_server(slots=1) as server:
        server.start()
        job = server.start(server.add_connection()).json()
        assert job["status"] == "pending"
        assert not {"duration", "lastUpdatedAt", "rowsSynced"} & job.keys()


def test_a_full_minute_is_told_without_seconds(airbyte: AirbyteServer) -> None:
    airbyte.clock.advance(53)
    assert airbyte.start().json()["startTime"] == "2026-03-02T14:01Z"


def test_between_two_attempts_a_job_is_incomplete() -> None:
    with airbyte_server(failing(TRANSIENT)) as server:
        server.start()
        server.clock.advance(31)
        job = server.public("GET", "/jobs/1").json()
        assert job["status"] == "incomplete"
        assert "lastUpdatedAt" not in job


def test_a_second_start_is_refused_as_something_to_try_again(airbyte: AirbyteServer) -> None:
    airbyte.start()
    reply = airbyte.start()
    assert reply.status_code == 409
    assert reply.headers["content-type"] == PROBLEM
    assert reply.json()["title"] == "try-again-later"
    assert reply.json()["data"]["message"] == f"A sync is already running for: {airbyte.connection.id}"


def test_an_inactive_connection_is_refused_as_a_conflict_of_state(airbyte: AirbyteServer) -> None:
    airbyte.public("PATCH", f"/connections/{airbyte.connection.id}", json={"status": "inactive"})
    reply = airbyte.start()
    assert reply.status_code == 409
    assert reply.json()["title"] == "state-conflict"
    assert reply.json()["data"]["message"] == "Could not fulfill request"


def test_cancelling_a_finished_job_is_a_conflict_of_state(airbyte: AirbyteServer) -> None:
    airbyte.start()
    assert airbyte.public("DELETE", "/jobs/1").json()["status"] == "cancelled"
    again = airbyte.public("DELETE", "/jobs/1")
    assert again.status_code == 409
    assert again.json()["data"]["message"] == "Job is not currently running"


def test_a_refresh_cannot_be_started_here(airbyte: AirbyteServer) -> None:
    reply = airbyte.start(kind="refresh")
    assert reply.status_code == 422
    assert airbyte.public("GET", "/jobs").json()["data"] == []


@pytest.mark.parametrize("kind", ["clear", "reset"])
def test_clears_and_resets_are_both_told_as_resets(airbyte: AirbyteServer, kind: str) -> None:
    assert airbyte.start(kind=kind).json()["jobType"] == "reset"


def test_a_listing_without_a_type_leaves_refreshes_out(airbyte: AirbyteServer) -> None:
    airbyte.world.refresh(airbyte.connection.id, "Merge")
    assert ids(airbyte.public("GET", "/jobs")) == []
    assert ids(airbyte.public("GET", "/jobs?jobType=refresh")) == [1]


@pytest.fixture
def busy() -> Iterator[tuple[AirbyteServer, list[AirbyteConnection]]]:
    """Seven jobs of as many connections, a second apart, the first five finished."""
    with airbyte_server(steady(SYNC_TIME)) as server:
        connections = [server.connection, *(server.add_connection(f"c{n}") for n in range(6))]
        for connection in connections:
            server.start(connection)
            server.clock.advance(1)
        server.clock.advance(27)
        yield server, connections


Busy = tuple[AirbyteServer, list[AirbyteConnection]]


def test_jobs_come_oldest_first_unless_asked_otherwise(busy: Busy) -> None:
    server, _ = busy
    assert ids(server.public("GET", "/jobs")) == [1, 2, 3, 4, 5, 6, 7]
    assert ids(server.public("GET", "/jobs?orderBy=createdAt|DESC&limit=2")) == [7, 6]
    assert ids(server.public("GET", "/jobs?orderBy=updatedAt|ASC&limit=2")) == [6, 7]


def test_the_last_page_is_followed_by_an_empty_one(busy: Busy) -> None:
    server, _ = busy
    first = server.public("GET", "/jobs", params={"limit": 4}).json()
    assert first["previous"] == ""
    assert first["next"].endswith("/api/public/v1/jobs?limit=4&offset=4")
    last = server.public("GET", "/jobs", params={"limit": 4, "offset": 4}).json()
    assert len(last["data"]) == 3
    assert last["next"] != ""
    assert server.public("GET", "/jobs", params={"limit": 4, "offset": 8}).json()["next"] == ""


def test_links_forget_every_filter_but_type_and_place(busy: Busy) -> None:
    server, connections = busy
    query = {"status": "succeeded", "jobType": "sync", "connectionId": str(connections[0].id)}
    link = httpx.URL(server.public("GET", "/jobs", params=query).json()["next"])
    assert dict(link.params) == {
        "jobType": "sync",
        "connectionId": str(connections[0].id),
        "limit": "20",
        "offset": "20",
    }


def test_a_status_and_a_window_of_time_narrow_a_listing(busy: Busy) -> None:
    server, _ = busy
    assert ids(server.public("GET", "/jobs?status=running")) == [6, 7]
    params = {"updatedAtStart": "2026-03-02T14:00:39Z", "updatedAtEnd": "2026-03-02T14:00:40Z", "status": "succeeded"}
    assert ids(server.public("GET", "/jobs", params=params)) == [3, 4]
    params = {"createdAtStart": "2026-03-02T14:00:12+00:00"}
    assert ids(server.public("GET", "/jobs", params=params)) == [6, 7]


def test_a_connection_makes_workspaces_irrelevant(busy: Busy) -> None:
    server, connections = busy
    elsewhere = {"workspaceIds": str(uuid.uuid4())}
    assert ids(server.public("GET", "/jobs", params=elsewhere)) == []
    assert ids(server.public("GET", "/jobs", params={**elsewhere, "connectionId": str(connections[1].id)})) == [2]


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=101",
        "offset=-1",
        "status=done",
        "jobType=backup",
        "orderBy=createdAt",
        "orderBy=name|ASC",
        "updatedAtStart=yesterday",
        "connectionId=7",
    ],
)
def test_a_parameter_that_does_not_fit_is_named(airbyte: AirbyteServer, query: str) -> None:
    reply = airbyte.public("GET", f"/jobs?{query}")
    assert reply.status_code == 400
    assert query.partition("=")[0] in reply.json()["data"]["message"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/jobs/99"),
        ("DELETE", "/jobs/99"),
        ("GET", "/connections/5e0c1f3a-0000-4000-8000-000000000000"),
        ("PATCH", "/connections/5e0c1f3a-0000-4000-8000-000000000000"),
        ("GET", "/sources/5e0c1f3a-0000-4000-8000-000000000000"),
        ("GET", "/destinations/5e0c1f3a-0000-4000-8000-000000000000"),
        ("GET", "/workspaces/5e0c1f3a-0000-4000-8000-000000000000"),
    ],
)
def test_what_is_not_there_is_a_problem_document(airbyte: AirbyteServer, method: str, path: str) -> None:
    reply = airbyte.public(method, path, **({"json": {}} if method == "PATCH" else {}))
    assert reply.status_code == 404
    assert reply.headers["content-type"] == PROBLEM
    assert reply.json()["title"] == "resource-not-found"


def test_an_unknown_connection_cannot_be_started(airbyte: AirbyteServer) -> None:
    reply = airbyte.public("POST", "/jobs", json={"connectionId": str(uuid.uuid4()), "jobType": "sync"})
    assert reply.status_code == 404


@pytest.mark.parametrize("body", ["", "[]", "{", '{"jobType": "sync"}', '{"connectionId": "x", "jobType": "sync"}'])
def test_a_malformed_body_starts_nothing(airbyte: AirbyteServer, body: str) -> None:
    assert airbyte.public("POST", "/jobs", content=body).status_code == 400
    assert ids(airbyte.public("GET", "/jobs")) == []


def test_a_connection_tells_its_streams_and_schedule_and_no_secret_is_told(airbyte: AirbyteServer) -> None:
    shown = airbyte.public("GET", f"/connections/{airbyte.connection.id}").json()
    assert [stream["name"] for stream in shown["configurations"]["streams"]] == ["ad_insights", "campaigns"]
    assert shown["schedule"] == {"scheduleType": "manual"}
    source = airbyte.public("GET", f"/sources/{airbyte.connection.source_id}")
    destination = airbyte.public("GET", f"/destinations/{airbyte.connection.destination_id}")
    assert source.json()["sourceType"] == "facebook-marketing"
    assert "realistic" not in source.text
    assert "hidden" not in destination.text


def test_a_locked_connection_cannot_be_changed(airbyte: AirbyteServer) -> None:
    path = f"/connections/{airbyte.connection.id}"
    airbyte.public("PATCH", path, json={"status": "locked"})
    reply = airbyte.public("PATCH", path, json={"status": "active"})
    assert reply.status_code == 409
    assert reply.json()["type"] == "error:connection/locked"


def test_a_deleted_connection_is_gone_unless_deleted_ones_are_asked_for(airbyte: AirbyteServer) -> None:
    path = f"/connections/{airbyte.connection.id}"
    assert airbyte.public("DELETE", path).status_code == 204
    assert airbyte.public("GET", path).status_code == 404
    assert airbyte.public("GET", "/connections").json()["data"] == []
    listed = airbyte.public("GET", "/connections?includeDeleted=true").json()["data"]
    assert [row["status"] for row in listed] == ["deprecated"]
    assert airbyte.start().status_code == 404


def test_workspaces_sources_and_connections_can_be_made_over_the_api(airbyte: AirbyteServer) -> None:
    workspace = airbyte.public("POST", "/workspaces", json={"name": "New"}).json()["workspaceId"]
    common: dict[str, Any] = {"name": "x", "workspaceId": workspace}
    source = airbyte.public("POST", "/sources", json={**common, "configuration": {"sourceType": "google-ads"}}).json()
    target = airbyte.public("POST", "/destinations", json={**common, "configuration": {"host": "db"}}).json()
    body = {
        "sourceId": source["sourceId"],
        "destinationId": target["destinationId"],
        "schedule": {"scheduleType": "cron", "cronExpression": "0 0 6 * * ? America/Jamaica"},
    }
    made = airbyte.public("POST", "/connections", json=body).json()
    assert made["workspaceId"] == workspace
    assert made["schedule"]["cronExpression"] == "0 0 6 * * ? America/Jamaica"
    assert airbyte.public("GET", f"/connections?workspaceIds={workspace}").json()["data"] == [made]
    assert airbyte.public("DELETE", f"/sources/{source['sourceId']}").status_code == 204
    assert airbyte.public("GET", f"/connections/{made['connectionId']}").status_code == 404


def test_health_needs_no_token_and_everything_else_does() -> None:
    with airbyte_server(gate=Gate("app", "a-long-secret")) as server:
        assert server.public("GET", "/health").text == "Successful operation"
        refused = server.public("GET", "/jobs")
        assert refused.status_code == 401
        assert refused.json()["title"] == "invalid-api-key"
        assert server.config("/jobs/list", {"configTypes": ["sync"]}).json()["message"] == "Unauthorized"


@pytest.mark.parametrize("form", ["json", "data"])
def test_tokens_are_given_for_json_and_for_forms_and_expire(form: str) -> None:
    gate = Gate("app", "a-long-secret", lifetime=timedelta(minutes=3))
    with airbyte_server(gate=gate) as server:
        gate.clock = server.clock
        credentials = {"client_id": "app", "client_secret": "a-long-secret", "grant_type": "client_credentials"}
        granted = server.client.post(f"{server.url}/api/public/v1/applications/token", **{form: credentials}).json()  # type: ignore[arg-type]
        assert (granted["token_type"], granted["expires_in"]) == ("Bearer", 180)
        headers = {"Authorization": f"Bearer {granted['access_token']}"}
        assert server.public("GET", "/jobs", headers=headers).status_code == 200
        server.clock.advance(181)
        assert server.public("GET", "/jobs", headers=headers).status_code == 401


def test_wrong_credentials_get_no_token_and_a_user_may_sign_in_with_a_password() -> None:
    with airbyte_server(gate=Gate("app", "a-long-secret", username="airbyte", password="a-password")) as server:
        wrong = {"client_id": "app", "client_secret": "another"}
        assert server.public("POST", "/applications/token", json=wrong).status_code == 400
        basic = base64.b64encode(b"airbyte:a-password").decode()
        assert server.public("GET", "/jobs", headers={"Authorization": f"Basic {basic}"}).status_code == 200
        assert server.public("GET", "/jobs", headers={"Authorization": "Basic bm86bm8="}).status_code == 401
