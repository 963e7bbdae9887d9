"""What the backend's two health endpoints answer, as decisions over plain values.

Belongs here: states, HTTP codes and bodies of `/api/health/airbyte/` and `/api/health/dbt/`. Does not belong here:
reading the database or the file (`app`). Both endpoints keep the backend's own weaknesses: the first speaks of the
most recently synced connection only, the second calls a passed test a failing model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

STALE_SYNC_AFTER = timedelta(minutes=60)  # runbook: Airbyte is healthy when the freshest job is under 60 minutes old
STALE_DBT_AFTER = timedelta(hours=24)  # runbook: dbt is healthy when its latest run is under 24 hours old
_UNFINISHED = frozenset({"pending", "queued", "running", "incomplete"})
_HEALTHY_RESULTS = frozenset({"success", "skipped"})
HTTP_CODES = {
    "ok": 200,
    "pending": 200,
    "stale": 503,
    "no_recent_sync": 503,
    "running_stale": 503,
    "misconfigured": 503,
    "status_store_unavailable": 503,
    "sync_failed": 502,
    "missing_run_results": 503,
    "failing": 502,
    "invalid_run_results": 500,
}
_DETAILS = {
    "ok": "The latest sync succeeded.",
    "pending": "A sync is running.",
    "stale": "The latest sync is older than 60 minutes.",
    "no_recent_sync": "No sync has finished yet.",
    "running_stale": "A sync has been running for more than 60 minutes.",
    "misconfigured": "No Airbyte connection is configured.",
    "status_store_unavailable": "The sync status cannot be read.",
    "sync_failed": "The latest sync failed.",
}


@dataclass(frozen=True, slots=True)
class LastSync:
    """The most recently synced connection's last job, as the backend's table holds it."""

    tenant_id: str
    last_synced_at: datetime
    last_job_id: str
    last_job_status: str
    last_job_error: str
    last_job_updated_at: datetime | None

    def shown(self) -> dict[str, Any]:
        """The `last_sync` object."""
        return {
            "tenant_id": self.tenant_id,
            "last_synced_at": self.last_synced_at.isoformat(),
            "last_job_id": self.last_job_id or None,
            "last_job_status": self.last_job_status or None,
            "last_job_error": self.last_job_error or None,
            "last_job_updated_at": self.last_job_updated_at.isoformat() if self.last_job_updated_at else None,
        }


def airbyte_status(last: LastSync | None, *, configured: bool, now: datetime) -> str:
    """The state that the endpoint reports."""
    if not configured:
        return "misconfigured"
    if last is None:
        return "no_recent_sync"
    if last.last_job_status in _UNFINISHED:
        moved = last.last_job_updated_at or last.last_synced_at
        return "running_stale" if now - moved > STALE_SYNC_AFTER else "pending"
    if last.last_job_status != "succeeded":
        return "sync_failed"
    return "stale" if now - last.last_synced_at > STALE_SYNC_AFTER else "ok"


def airbyte_body(
    status: str, last: LastSync | None, jobs: Sequence[Mapping[str, Any]], *, configured: bool
) -> dict[str, Any]:
    """The endpoint's reply; `jobs` are the newest finished ones, newest first."""
    counts: dict[str, int] = {}
    for job in jobs:
        counts[str(job["status"])] = counts.get(str(job["status"]), 0) + 1
    return {
        "component": "airbyte",
        "configured": configured,
        "status": status,
        "detail": _DETAILS[status],
        "stale": status in ("stale", "running_stale", "no_recent_sync"),
        "last_sync": last.shown() if last else None,
        "recent_jobs": list(jobs),
        "job_summary": {"count": len(jobs), "by_status": counts},
    }


def dbt_body(run_results: str | None, path: str, now: datetime) -> dict[str, Any]:
    """The endpoint's reply.

    Args:
        run_results: The file's text; None when there is no file.
        path: Where the backend looks for it.
        now: The present moment.
    """
    body: dict[str, Any] = {
        "component": "dbt",
        "status": "missing_run_results",
        "generated_at": None,
        "failing_models": [],
        "run_results_path": path,
    }
    if run_results is None:
        return body
    try:
        document = json.loads(run_results)
        body["generated_at"] = document["metadata"]["generated_at"]
        generated_at = _moment(body["generated_at"])
        body["failing_models"] = [r["unique_id"] for r in document["results"] if r["status"] not in _HEALTHY_RESULTS]
    except (ValueError, KeyError, TypeError, AttributeError):
        return {**body, "status": "invalid_run_results"}
    if body["failing_models"]:
        return {**body, "status": "failing"}
    return {**body, "status": "stale" if now - generated_at > STALE_DBT_AFTER else "ok"}


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
