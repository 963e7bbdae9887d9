"""The configuration API over HTTP: reasons, statistics, statuses, resets."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from adinsights_orchestration.local.airbyte.model import StreamStats
from tests.local.airbyte_support import MISCONFIGURED, START, TRANSIENT, AirbyteServer, airbyte_server, failing

SYNCS = {"configTypes": ["sync", "reset_connection", "refresh", "clear"]}


def test_a_failure_is_told_with_its_attempt_and_nowhere_in_the_public_api() -> None:
    with airbyte_server(failing(MISCONFIGURED)) as server:
        server.start()
        server.clock.advance(31)
        info = server.config("/jobs/get_without_logs", {"id": 1}).json()
        assert info["attempts"][0]["attempt"]["failureSummary"] == {
            "failures": [
                {
                    "failureOrigin": "source",
                    "failureType": "config_error",
                    "externalMessage": "The access token was revoked.",
                    "retryable": False,
                    "timestamp": int(START.timestamp() + 30) * 1000,
                }
            ],
            "partialSuccess": True,
        }
        assert "revoked" not in server.public("GET", "/jobs/1").text


def test_an_attempt_is_known_by_its_number_and_counts_add_up_over_attempts() -> None:
    with airbyte_server(failing(TRANSIENT)) as server:
        server.start()
        server.clock.advance(100)
        info = server.config("/jobs/get_without_logs", {"id": 1}).json()
        assert [attempt["attempt"]["id"] for attempt in info["attempts"]] == [0, 1]
        assert info["job"]["aggregatedStats"]["recordsCommitted"] == 3 + 2 * 10
        by_stream = {s["streamName"]: s["recordsCommitted"] for s in info["job"]["streamAggregatedStats"]}
        assert by_stream == {"campaigns": 13, "ad_insights": 10}
        first = server.config("/attempt/get_combined_stats", {"jobId": 1, "attemptNumber": 0}).json()
        assert first["recordsCommitted"] == 3
        assert server.config("/attempt/get_for_job", {"jobId": 1, "attemptNumber": 2}).status_code == 404


def test_jobs_are_listed_for_workspaces_by_several_statuses_and_a_window(airbyte: AirbyteServer) -> None:
    airbyte.start()
    airbyte.clock.advance(31)
    airbyte.start(airbyte.add_connection())
    body = {**SYNCS, "workspaceIds": [str(airbyte.workspace_id)], "statuses": ["running", "succeeded"]}
    both = airbyte.config("/jobs/list_for_workspaces", body).json()
    assert [row["job"]["id"] for row in both["jobs"]] == [2, 1]
    assert both["totalJobCount"] == 2
    window = {"updatedAtStart": "2026-03-02T14:00:38Z", "orderByField": "updatedAt", "orderByMethod": "ASC"}
    late = airbyte.config("/jobs/list_for_workspaces", {**body, **window}).json()
    assert [row["job"]["id"] for row in late["jobs"]] == [2]
    paged = airbyte.config("/jobs/list_for_workspaces", {**body, "pagination": {"pageSize": 1, "rowOffset": 1}}).json()
    assert [row["job"]["id"] for row in paged["jobs"]] == [1]
    assert paged["totalJobCount"] == 2


def test_no_workspaces_means_no_jobs(airbyte: AirbyteServer) -> None:
    airbyte.start()
    assert airbyte.config("/jobs/list_for_workspaces", {**SYNCS, "workspaceIds": []}).json()["jobs"] == []


def test_a_connections_jobs_come_newest_first_and_up_to_a_named_one(airbyte: AirbyteServer) -> None:
    for _ in range(5):
        airbyte.start()
        airbyte.clock.advance(31)
    body: dict[str, Any] = {**SYNCS, "configId": str(airbyte.connection.id), "pagination": {"pageSize": 2}}
    assert [row["job"]["id"] for row in airbyte.config("/jobs/list", body).json()["jobs"]] == [5, 4]
    upto = airbyte.config("/jobs/list", {**body, "includingJobId": 3}).json()
    assert [row["job"]["id"] for row in upto["jobs"]] == [5, 4, 3, 2]
    assert airbyte.config("/jobs/list", {**body, "includingJobId": 99}).json()["jobs"] == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/jobs/list", {}),
        ("/jobs/list", {"configTypes": ["backup"]}),
        ("/jobs/list", {"configTypes": ["sync"], "statuses": ["done"]}),
        ("/jobs/get_light", {"id": "seven"}),
        ("/connections/get", {}),
        ("/connections/refresh", {"connectionId": str(uuid.uuid4()), "refreshMode": "Replace"}),
    ],
)
def test_invalid_input_names_the_property(airbyte: AirbyteServer, path: str, body: dict[str, Any]) -> None:
    reply = airbyte.config(path, body)
    assert reply.status_code == 422
    assert reply.json()["validationErrors"][0]["propertyPath"]


def test_what_is_not_there_is_a_known_exception(airbyte: AirbyteServer) -> None:
    missing = str(uuid.uuid4())
    reply = airbyte.config("/connections/get", {"connectionId": missing})
    assert (reply.status_code, reply.json()["id"]) == (404, missing)
    assert airbyte.config("/jobs/get_light", {"id": 99}).status_code == 404


def test_refusals_have_this_apis_own_codes(airbyte: AirbyteServer) -> None:
    connection = {"connectionId": str(airbyte.connection.id)}
    assert airbyte.config("/connections/sync", connection).json()["job"]["id"] == 1
    assert airbyte.config("/connections/sync", connection).status_code == 409
    assert airbyte.config("/jobs/cancel", {"id": 1}).json()["job"]["status"] == "cancelled"
    assert airbyte.config("/jobs/cancel", {"id": 1}).status_code == 409
    airbyte.config("/connections/update", {**connection, "status": "inactive"})
    assert airbyte.config("/connections/sync", connection).status_code == 500
    airbyte.config("/connections/update", {**connection, "status": "locked"})
    assert airbyte.config("/connections/update", {**connection, "status": "active"}).status_code == 409


def test_the_state_of_connections_follows_their_last_sync() -> None:
    with airbyte_server(failing(MISCONFIGURED), slots=1) as server:
        other = server.add_connection()
        asked = {"connectionIds": [str(server.connection.id), str(other.id)]}

        def states() -> list[str]:
            return [row["connectionSyncStatus"] for row in server.config("/connections/status", asked).json()]

        assert states() == ["pending", "pending"]
        server.start()
        server.start(other)
        assert states() == ["running", "queued"]
        server.clock.advance(31)
        first = server.config("/connections/status", asked).json()[0]
        assert first["connectionSyncStatus"] == "failed"
        assert first["failureReason"]["externalMessage"] == "The access token was revoked."
        assert "activeJob" not in first
        server.public("PATCH", f"/connections/{server.connection.id}", json={"status": "inactive"})
        assert states()[0] == "paused"


def test_progress_is_told_while_a_sync_runs(airbyte: AirbyteServer) -> None:
    asked = {"connectionId": str(airbyte.connection.id)}
    assert "jobId" not in airbyte.config("/connections/sync_progress", asked).json()
    airbyte.start()
    airbyte.world.report(1, (StreamStats("campaigns", None, 40, 4000, 25, 2500),), airbyte.clock())
    progress = airbyte.config("/connections/sync_progress", asked).json()
    assert (progress["jobId"], progress["recordsEmitted"], progress["recordsCommitted"]) == (1, 40, 25)
    assert progress["streams"][0]["streamName"] == "campaigns"


def test_each_stream_tells_its_last_job(airbyte: AirbyteServer) -> None:
    airbyte.start()
    airbyte.clock.advance(31)
    rows = airbyte.config("/connections/last_job_per_stream", {"connectionId": str(airbyte.connection.id)}).json()
    assert {row["streamName"]: row["recordsCommitted"] for row in rows} == {"ad_insights": 100, "campaigns": 100}
    assert {row["jobId"] for row in rows} == {1}


def test_stream_statuses_tell_how_each_attempt_went() -> None:
    with airbyte_server(failing(TRANSIENT)) as server:
        server.start()
        server.clock.advance(100)
        body = {"workspaceId": str(server.workspace_id), "jobId": 1, "pagination": {"pageSize": 50, "rowOffset": 0}}
        rows = server.config("/stream_statuses/list", body).json()["streamStatuses"]
        states = {(row["attemptNumber"], row["streamName"]): row["runState"] for row in rows}
        assert states == {
            (0, "ad_insights"): "INCOMPLETE",
            (0, "campaigns"): "INCOMPLETE",
            (1, "ad_insights"): "COMPLETE",
            (1, "campaigns"): "COMPLETE",
        }
        assert {row.get("incompleteRunCause") for row in rows if row["attemptNumber"] == 0} == {"FAILED"}


def test_state_is_there_after_a_sync_and_gone_after_a_clear(airbyte: AirbyteServer) -> None:
    asked = {"connectionId": str(airbyte.connection.id)}
    assert airbyte.config("/state/get", asked).json()["stateType"] == "not_set"
    airbyte.start()
    airbyte.clock.advance(31)
    state = airbyte.config("/state/get", asked).json()
    assert [entry["streamDescriptor"]["name"] for entry in state["streamState"]] == ["ad_insights"]
    airbyte.config("/connections/clear", asked)
    airbyte.clock.advance(31)
    assert airbyte.config("/state/get", asked).json()["stateType"] == "not_set"


def test_one_stream_can_be_cleared_alone(airbyte: AirbyteServer) -> None:
    body = {"connectionId": str(airbyte.connection.id), "streams": [{"streamName": "campaigns"}]}
    job = airbyte.config("/connections/clear/stream", body).json()["job"]
    assert job["configType"] == "reset_connection"
    assert job["resetConfig"]["streamsToReset"] == [{"name": "campaigns"}]
    assert airbyte.world.resources.connection(airbyte.connection.id).generation == 0


def test_a_refresh_is_a_job_unless_one_is_running(airbyte: AirbyteServer) -> None:
    body = {"connectionId": str(airbyte.connection.id), "refreshMode": "Truncate"}
    job = airbyte.config("/connections/refresh", body).json()["job"]
    assert job["configType"] == "refresh"
    assert airbyte.config("/connections/refresh", body).json() == {}


def test_debug_info_names_connectors_and_version(airbyte: AirbyteServer) -> None:
    airbyte.start()
    info = airbyte.config("/jobs/get_debug_info", {"id": 1}).json()
    assert info["job"]["sourceDefinition"]["name"] == "facebook-marketing"
    assert info["workflowState"] == {"running": True}
