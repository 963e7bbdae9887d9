"""Every fault knob of area `airbyte`, by what a client meets."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from adinsights_orchestration.local.airbyte.faults import AIRBYTE_KNOBS
from adinsights_orchestration.local.airbyte.model import JobStatus
from tests.local.airbyte_support import AirbyteServer, airbyte_server


def test_every_knob_is_turned_by_some_test() -> None:
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_airbyte_*.py"))
    assert [knob.name for knob in AIRBYTE_KNOBS if f'"{knob.name}", ' not in tests] == []


def listed(server: AirbyteServer) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = server.public("GET", "/jobs").json()["data"]
    return rows


def test_a_server_that_is_down_answers_503_in_plain_text(airbyte: AirbyteServer) -> None:
    airbyte.set("down", True)
    reply = airbyte.start()
    assert (reply.status_code, reply.text) == (503, "no healthy upstream")
    airbyte.set("down", False)
    assert listed(airbyte) == []


def test_refused_connections_end_without_a_reply(airbyte: AirbyteServer) -> None:
    airbyte.set("refuse_connections", True)
    with pytest.raises(httpx.TransportError):
        airbyte.public("GET", "/health")


def test_a_proxy_answers_html(airbyte: AirbyteServer) -> None:
    airbyte.set("html_error", True)
    reply = airbyte.public("GET", "/jobs")
    assert reply.status_code == 502
    assert reply.headers["content-type"].startswith("text/html")


def test_a_gateway_that_lost_its_way_answers_404_in_json_of_its_own(airbyte: AirbyteServer) -> None:
    airbyte.set("no_route", True)
    reply = airbyte.public("GET", "/health")
    assert (reply.status_code, reply.json()) == (404, {"message": "no Route matched with those values"})


def test_the_configuration_api_can_be_down_alone(airbyte: AirbyteServer) -> None:
    airbyte.set("config_api_down", True)
    assert airbyte.config("/jobs/list", {"configTypes": ["sync"]}).status_code == 503
    assert airbyte.start().status_code == 200


def test_slow_replies_outlast_an_impatient_client(airbyte: AirbyteServer) -> None:
    airbyte.set("slow_ms", 2000)
    with pytest.raises(httpx.ReadTimeout):
        airbyte.public("GET", "/health", timeout=0.3)


def test_credentials_are_refused_a_number_of_times(airbyte: AirbyteServer) -> None:
    airbyte.set("unauthorized_next", 2)
    assert [airbyte.public("GET", "/jobs").status_code for _ in range(3)] == [401, 401, 200]


def test_the_jobs_of_one_connection_can_be_forbidden(airbyte: AirbyteServer) -> None:
    assert airbyte.start().status_code == 200
    (job,) = listed(airbyte)
    airbyte.set("forbidden", [job["connectionId"]])
    refused = airbyte.public("GET", f"/jobs?connectionId={job['connectionId']}")
    assert (refused.status_code, listed(airbyte)[0]["jobId"]) == (403, job["jobId"])


def test_a_workspace_can_be_listed_and_its_jobs_forbidden(airbyte: AirbyteServer) -> None:
    (workspace,) = airbyte.public("GET", "/workspaces").json()["data"]
    airbyte.set("no_jobs", [workspace["workspaceId"]])
    assert airbyte.public("GET", f"/jobs?workspaceIds={workspace['workspaceId']}").status_code == 403
    assert airbyte.public("GET", "/workspaces").json()["data"] == [workspace]


def test_rate_limits_do_not_say_when_to_come_back(airbyte: AirbyteServer) -> None:
    airbyte.set("rate_limited_next", 1)
    reply = airbyte.public("GET", "/jobs")
    assert reply.status_code == 429
    assert reply.json() == {"message": "You are being rate limited."}
    assert "retry-after" not in reply.headers
    assert airbyte.public("GET", "/jobs").status_code == 200


def test_a_slow_post_has_started_the_job_before_it_answers(airbyte: AirbyteServer) -> None:
    airbyte.set("post_slow_ms", 6000)
    with pytest.raises(httpx.ReadTimeout):
        airbyte.public("POST", "/jobs", json={"connectionId": str(airbyte.connection.id), "jobType": "sync"}, timeout=2)
    assert [job["jobId"] for job in listed(airbyte)] == [1]


def test_a_lost_reply_leaves_a_running_job_behind(airbyte: AirbyteServer) -> None:
    airbyte.set("post_lost_reply_next", 1)
    with pytest.raises(httpx.RemoteProtocolError):
        airbyte.start()
    assert [job["status"] for job in listed(airbyte)] == ["running"]
    assert airbyte.start().status_code == 409


async def _post_all(server: AirbyteServer) -> None:
    connections = [server.add_connection(f"c{n}") for n in range(8)]
    async with httpx.AsyncClient(timeout=30) as client:
        await asyncio.gather(
            *(
                client.post(
                    f"{server.url}/api/public/v1/jobs", json={"connectionId": str(connection.id), "jobType": "sync"}
                )
                for connection in connections
            )
        )


def test_posts_queue_for_the_servers_threads(airbyte: AirbyteServer) -> None:
    airbyte.set("post_threads", 2)
    airbyte.set("post_ms", 100)
    started = time.monotonic()
    asyncio.run(_post_all(airbyte))
    # Eight posts through two threads of 100 ms each cannot take less: a floor that the server guarantees.
    assert time.monotonic() - started >= 0.4
    assert len(listed(airbyte)) == 8


@pytest.mark.parametrize(
    ("knob", "title"), [("conflict_running_next", "try-again-later"), ("conflict_state_next", "state-conflict")]
)
def test_both_conflicts_can_be_told_without_a_reason(airbyte: AirbyteServer, knob: str, title: str) -> None:
    airbyte.set(knob, 1)
    reply = airbyte.start()
    assert (reply.status_code, reply.json()["title"]) == (409, title)
    assert listed(airbyte) == []
    assert airbyte.start().status_code == 200


def test_the_same_page_comes_for_ever(airbyte: AirbyteServer) -> None:
    airbyte.start()
    airbyte.set("repeat_page", True)
    for path in ("/jobs", "/connections"):
        page = airbyte.public("GET", f"{path}?limit=1&offset=700").json()
        assert len(page["data"]) == 1
        assert page["next"].endswith("offset=701")


def test_a_vanished_job_is_neither_found_nor_listed(airbyte: AirbyteServer) -> None:
    airbyte.start()
    airbyte.set("vanish_job", [1])
    assert airbyte.public("GET", "/jobs/1").status_code == 404
    assert airbyte.public("DELETE", "/jobs/1").status_code == 404
    assert airbyte.config("/jobs/get_without_logs", {"id": 1}).status_code == 404
    assert listed(airbyte) == []
    assert airbyte.start().status_code == 409


def test_a_skewed_clock_shifts_what_is_told_and_what_is_compared(airbyte: AirbyteServer) -> None:
    airbyte.set("clock_skew_seconds", -60)
    job = airbyte.start().json()
    assert job["startTime"] == "2026-03-02T13:59:07Z"
    assert airbyte.public("GET", "/jobs?createdAtStart=2026-03-02T13:59:08Z").json()["data"] == []
    assert len(airbyte.public("GET", "/jobs?createdAtStart=2026-03-02T13:59:07Z").json()["data"]) == 1


def test_newer_servers_call_a_waiting_job_queued() -> None:
    with airbyte_server(slots=1) as server:
        server.start()
        server.set("queued_state", True)
        assert server.start(server.add_connection()).json()["status"] == "queued"
        assert [row["jobId"] for row in server.public("GET", "/jobs?status=queued").json()["data"]] == [2]
        assert server.public("GET", "/jobs?status=pending").json()["data"] == []
        body = {"configTypes": ["sync"], "statuses": ["queued"]}
        assert [row["job"]["id"] for row in server.config("/jobs/list", body).json()["jobs"]] == [2]


def test_a_connection_can_be_made_to_fail_for_a_reason(airbyte: AirbyteServer) -> None:
    reason = {"failureType": "config_error", "failureOrigin": "source", "externalMessage": "Token revoked."}
    airbyte.set("fail_connection", {str(airbyte.connection.id): reason})
    other = airbyte.add_connection()
    airbyte.start()
    airbyte.start(other)
    airbyte.clock.advance(31)
    assert [job["status"] for job in listed(airbyte)] == ["failed", "succeeded"]
    attempt = airbyte.config("/jobs/get_without_logs", {"id": 1}).json()["attempts"][0]["attempt"]
    told = attempt["failureSummary"]["failures"][0]
    assert {name: told[name] for name in reason} == reason


def test_an_empty_connection_succeeds_with_nothing(airbyte: AirbyteServer) -> None:
    airbyte.set("empty_connection", [str(airbyte.connection.id)])
    airbyte.start()
    airbyte.clock.advance(31)
    assert [(job["status"], job["rowsSynced"]) for job in listed(airbyte)] == [("succeeded", 0)]
    assert airbyte.world.jobs.get(1).status is JobStatus.SUCCEEDED
