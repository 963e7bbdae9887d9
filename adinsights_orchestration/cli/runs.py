"""Runs that a command starts: by the UI's queue where it answers, else in this process.

Belongs here: launching one run of a job, asking how it is, what failed in it. Does not belong here: which job with what
configuration (the commands), showing progress (`watch`). A run that the UI launched is the orchestrator's: it goes on
when the command ends. One in this process ends with it; its syncs go on in Airbyte and are observed all the same.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx

from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.logs import CORRELATION_TAG, new_correlation_id
from adinsights_orchestration.settings import Settings

if TYPE_CHECKING:
    from adinsights_orchestration.ops_store.store import OpsStore

# As in `ingestion.assets`, which imports Dagster: seconds that a command can do without (a test holds them together).
SYNC_JOB, SYNC_OP = "sync_connections", "sync"
HISTORY_JOBS = {"refresh": "refresh_connection", "clear": "clear_connection"}
SCHEMA_JOB = "approve_schema_change"
REPAIR_OPS = {"refresh_connection": "refresh", "clear_connection": "clear", SCHEMA_JOB: "approve_schema"}
DBT_JOB, DBT_OP = "dbt_build", "build"
TERMINAL = frozenset(("SUCCESS", "FAILURE", "CANCELED"))
REQUESTED_BY_TAG = "adinsights/requested_by"
_TIMEOUT_SECONDS = 20.0
# No reply, a proxy's page, or an answer of another shape: what a UI that restarts gives.
_NO_ANSWER = (httpx.HTTPError, ValueError, KeyError, TypeError, AttributeError)
_FIND = """{ repositoriesOrError { ... on RepositoryConnection { nodes { name location { name } jobs { name } } } } }"""
_LAUNCH = """mutation ($execution: ExecutionParams!) { launchRun(executionParams: $execution) { __typename
    ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } } ... on UnauthorizedError { message } } }"""
_STATUS = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
# Dagster gives a thousand events at a time, and a run of some hundred partitions has more.
_FAILURES = """query ($id: ID!, $after: String) { logsForRun(runId: $id, afterCursor: $after) {
    ... on EventConnection { cursor hasMore events {
    ... on ExecutionStepFailureEvent {
      error { message causes { message } }
      failureMetadata { metadataEntries { label ... on JsonMetadataEntry { jsonString } } } }
    ... on RunFailureEvent { message error { message } } } } } }"""


class RunError(AdinsightsError):
    """The run could not be started."""


@dataclass(frozen=True, slots=True)
class Failures:
    """What failed in a run: reasons by partition, and what else went wrong."""

    by_partition: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""


class Ui:
    """Dagster's GraphQL API, as far as commands need it.

    Args:
        url: Base URL that is asked.
        link: Base URL for people, who may have to pass a login; by default the same.
    """

    def __init__(self, url: str, link: str | None = None) -> None:
        self.url, self._link = url.rstrip("/"), (link or url).rstrip("/")

    def location_of(self, job: str) -> tuple[str, str] | None:
        """The location and repository that have the job; None when the UI does not answer, or does not know it."""
        try:
            nodes = self._ask(_FIND, {})["repositoriesOrError"]["nodes"]
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError):
            return None
        for node in nodes:
            if any(each["name"] == job for each in node["jobs"]):
                return node["location"]["name"], node["name"]
        return None

    def launch(self, where: tuple[str, str], job: str, config: Mapping[str, Any], tags: Mapping[str, str]) -> str:
        """Puts one run into the queue and returns its id; a refusal is a `RunError`."""
        execution = {
            "selector": {"repositoryLocationName": where[0], "repositoryName": where[1], "jobName": job},
            "runConfigData": dict(config),
            "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in tags.items()]},
        }
        try:
            launched = self._ask(_LAUNCH, {"execution": execution})["launchRun"]
        except _NO_ANSWER:
            raise RunError(
                "the UI did not answer when it was asked for the run, which may be in its queue all the same",
                next_step=f"Look for it in {self._link}/runs before you start another.",
            ) from None
        if launched["__typename"] == "LaunchRunSuccess":
            return str(launched["run"]["runId"])
        reasons = [launched.get("message", ""), *(error["message"] for error in launched.get("errors", ()))]
        reason = next((text for text in reasons if text), launched["__typename"])
        raise RunError(f"Dagster did not take the run: {reason}", next_step=f"See {self._link}/locations.")

    def status(self, run_id: str) -> str | None:
        """The run's status, `SUCCESS` for instance; None when the UI did not answer this time."""
        try:
            return str(self._ask(_STATUS, {"id": run_id})["runOrError"]["status"])
        except _NO_ANSWER:
            return None

    def failures(self, run_id: str) -> Failures | None:
        """What the finished run says that failed; None when the UI did not answer this time."""
        try:
            return _failures(self._events(run_id))
        except _NO_ANSWER:
            return None

    def _events(self, run_id: str) -> Iterator[Mapping[str, Any]]:
        """The run's events from first to last."""
        cursor: str | None = None
        while True:
            page = self._ask(_FAILURES, {"id": run_id, "after": cursor})["logsForRun"]
            yield from page.get("events", [])
            if not page.get("hasMore"):
                return
            cursor = page["cursor"]

    def run_url(self, run_id: str) -> str:
        """The run's page."""
        return f"{self._link}/runs/{run_id}"

    def _ask(self, query: str, variables: Mapping[str, Any]) -> Any:
        body = {"query": query, "variables": variables}
        reply = httpx.post(f"{self.url}/graphql", json=body, timeout=_TIMEOUT_SECONDS, trust_env=False)
        return reply.json()["data"]


def run_here(
    settings: Settings, job: str, config: Mapping[str, Any], tags: Mapping[str, str], run_id: str, *, store: OpsStore
) -> Failures:
    """Runs a job in this process, on the configured Dagster instance, and returns what failed."""
    if not os.environ.get("DAGSTER_HOME"):
        raise RunError(
            "DAGSTER_HOME is not set, so there is no Dagster instance to run on",
            next_step="Start the local stack (`make up`), or set it to the folder of dagster.yaml.",
        )
    import dagster as dg

    from adinsights_orchestration.cli import process
    from adinsights_orchestration.logs import configure_dagster_logging

    configure_dagster_logging(process.for_people(settings), "cli")
    definition = _job(settings, store, job)
    with dg.DagsterInstance.get() as instance:
        result = definition.execute_in_process(
            run_config=dict(config), instance=instance, run_id=run_id, tags=dict(tags), raise_on_error=False
        )
    if result.success:
        return Failures()
    failed = [_step_failure(event.step_failure_data) for event in result.all_events if event.is_step_failure]
    by_partition = {key: reason for each in failed for key, reason in each.by_partition.items()}
    return Failures(by_partition, next((each.reason for each in failed if each.reason), "the run failed"))


def _step_failure(data: Any) -> Failures:
    """What a failed step says; `data` is Dagster's StepFailureData."""
    error, said = data.error, data.user_failure_data
    cause = error.cause or error if error is not None else None
    partitions = said.metadata.get("failed") if said is not None else None
    reason = (said.description if said is not None else None) or (cause.message if cause is not None else "")
    return Failures(dict(partitions.value) if partitions is not None else {}, str(reason).strip())


def new_run_id() -> str:
    """An id for a run in this process."""
    return str(uuid.uuid4())


def requester() -> str:
    """Who sits at the command line, for the audit log."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError):
        return "adinsights"


def run_tags() -> dict[str, str]:
    """The tags of a run that a command starts."""
    return {CORRELATION_TAG: new_correlation_id(), REQUESTED_BY_TAG: requester()}


def _job(settings: Settings, store: OpsStore, name: str) -> Any:
    if name == DBT_JOB:
        from adinsights_orchestration.build import build_pipelines

        return build_pipelines(settings, store).resolve_job_def(name)
    # Without the dbt project: a model that does not parse must not keep anybody from syncing.
    from adinsights_orchestration.alerting.operating import maintenance
    from adinsights_orchestration.ingestion.automation import build_ingestion

    return build_ingestion(settings, store, quietly=partial(maintenance.around, store)).resolve_job_def(name)


def _failures(events: Iterable[Mapping[str, Any]]) -> Failures:
    by_partition: dict[str, str] = {}
    reasons: list[str] = []
    for event in events:
        for entry in (event.get("failureMetadata") or {}).get("metadataEntries", ()):
            if entry["label"] == "failed":
                by_partition |= json.loads(entry["jsonString"])
        reasons += _messages(event)
    return Failures(by_partition, reasons[0] if reasons else "")


def _messages(event: Mapping[str, Any]) -> list[str]:
    error = event.get("error") or {}
    found = [cause.get("message", "") for cause in error.get("causes") or ()] + [error.get("message", "")]
    return [text.strip() for text in (*found, str(event.get("message") or "")) if text and text.strip()]
