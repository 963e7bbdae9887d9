"""What the backend's health endpoints decide."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from adinsights_orchestration.local.backend.health import HTTP_CODES, LastSync, airbyte_body, airbyte_status, dbt_body

NOW = datetime(2026, 3, 2, 14, tzinfo=UTC)
FRESH = LastSync("t", NOW - timedelta(minutes=5), "7", "succeeded", "", NOW - timedelta(minutes=5))


def ago(minutes: float, status: str = "succeeded") -> LastSync:
    moment = NOW - timedelta(minutes=minutes)
    return replace(FRESH, last_synced_at=moment, last_job_updated_at=moment, last_job_status=status)


@pytest.mark.parametrize(
    ("last", "status", "code"),
    [
        (FRESH, "ok", 200),
        (ago(60), "ok", 200),
        (ago(60.1), "stale", 503),
        (None, "no_recent_sync", 503),
        (ago(5, "running"), "pending", 200),
        (ago(61, "running"), "running_stale", 503),
        (ago(5, "failed"), "sync_failed", 502),
        (ago(500, "cancelled"), "sync_failed", 502),
    ],
)
def test_airbyte_health_follows_the_latest_sync(last: LastSync | None, status: str, code: int) -> None:
    assert airbyte_status(last, configured=True, now=NOW) == status
    assert HTTP_CODES[status] == code


def test_without_connections_airbyte_is_misconfigured() -> None:
    assert airbyte_status(FRESH, configured=False, now=NOW) == "misconfigured"


def test_the_airbyte_body_carries_the_last_sync_and_counts_jobs() -> None:
    jobs = [{"job_id": "1", "status": "succeeded"}, {"job_id": "2", "status": "failed"}]
    body = airbyte_body("sync_failed", replace(FRESH, last_job_error="revoked"), jobs, configured=True)
    assert body["last_sync"]["last_job_error"] == "revoked"
    assert body["job_summary"] == {"count": 2, "by_status": {"succeeded": 1, "failed": 1}}
    assert body["stale"] is False


def run_results(generated_at: datetime, **statuses: str) -> str:
    results = [{"unique_id": name, "status": status} for name, status in statuses.items()]
    return json.dumps({"metadata": {"generated_at": generated_at.isoformat()}, "results": results})


@pytest.mark.parametrize(
    ("text", "status", "code"),
    [
        (run_results(NOW, a="success", b="skipped"), "ok", 200),
        (run_results(NOW - timedelta(hours=24), a="success"), "ok", 200),
        (run_results(NOW - timedelta(hours=24, seconds=1), a="success"), "stale", 503),
        (run_results(NOW, a="success", b="error"), "failing", 502),
        (run_results(NOW - timedelta(days=3), a="error"), "failing", 502),
        (None, "missing_run_results", 503),
        ("", "invalid_run_results", 500),
        ("[]", "invalid_run_results", 500),
        ('{"metadata": {}, "results": []}', "invalid_run_results", 500),
        ('{"metadata": {"generated_at": "2026-03-02T14:00:00Z"}, "results": [{}]}', "invalid_run_results", 500),
    ],
)
def test_dbt_health_follows_the_run_results_file(text: str | None, status: str, code: int) -> None:
    assert dbt_body(text, "/x", NOW)["status"] == status
    assert HTTP_CODES[status] == code


def test_a_passed_test_counts_as_a_failing_model() -> None:
    assert dbt_body(run_results(NOW, model="success", test="pass"), "/x", NOW)["failing_models"] == ["test"]


def test_dbts_own_moments_are_read() -> None:
    body = dbt_body('{"metadata": {"generated_at": "2026-03-02T13:59:59.123456Z"}, "results": []}', "/x", NOW)
    assert (body["status"], body["generated_at"]) == ("ok", "2026-03-02T13:59:59.123456Z")
