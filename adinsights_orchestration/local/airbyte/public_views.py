"""How jobs, connections and the rest look in the public API.

Belongs here: values to JSON. Does not belong here: finding them. Fields that a real server leaves out in a state are
left out here: `lastUpdatedAt` before the end, `duration` while pending, counts before anything was committed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from adinsights_orchestration.local.airbyte import stats
from adinsights_orchestration.local.airbyte.model import (
    Actor,
    AirbyteConnection,
    AirbyteSchedule,
    CatalogStream,
    ConfigType,
    Job,
    JobStatus,
    Workspace,
)
from adinsights_orchestration.local.airbyte.moments import duration_text, epoch, offset_text

SECRET_MASK = "*" * 10
_SECRET_KEYS = ("secret", "password", "token", "api_key", "credentials_json")
_JOB_TYPES = {ConfigType.RESET_CONNECTION: "reset"}
_NAMESPACES = {"customformat": "custom_format"}
_PREFERENCES = {"disable": "disable_connection"}


@dataclass(frozen=True, slots=True)
class Telling:
    """How the server tells things just now: how far off its clock is, and what it calls a waiting job."""

    skew: timedelta = timedelta()
    queued: bool = False

    def status(self, status: JobStatus) -> str:
        """The job status as it is told."""
        return "queued" if self.queued and status is JobStatus.PENDING else status.value


def job_type(config_type: ConfigType) -> str:
    """The public name of a job's kind."""
    return _JOB_TYPES.get(config_type, config_type.value)


def job(value: Job, telling: Telling) -> dict[str, Any]:
    """`JobResponse`."""
    created, updated = value.created_at + telling.skew, value.updated_at + telling.skew
    shown: dict[str, Any] = {
        "jobId": value.id,
        "status": telling.status(value.status),
        "jobType": job_type(value.config_type),
        "startTime": offset_text(created),
        "connectionId": str(value.connection_id),
    }
    if value.terminal:
        shown["lastUpdatedAt"] = offset_text(updated)
    if value.status is not JobStatus.PENDING:
        shown["duration"] = duration_text(epoch(updated) - epoch(created))
    if any(attempt.streams for attempt in value.attempts):
        total = stats.total(value)
        shown["bytesSynced"] = total.bytes_committed
        shown["rowsSynced"] = total.records_committed
    return shown


def connection(value: AirbyteConnection) -> dict[str, Any]:
    """`ConnectionResponse`."""
    shown: dict[str, Any] = {
        "connectionId": str(value.id),
        "name": value.name,
        "sourceId": str(value.source_id),
        "destinationId": str(value.destination_id),
        "workspaceId": str(value.workspace_id),
        "status": value.status.value,
        "schedule": _schedule(value.schedule),
        "nonBreakingSchemaUpdatesBehavior": _PREFERENCES.get(
            value.non_breaking_preference, value.non_breaking_preference
        ),
        "namespaceDefinition": _NAMESPACES.get(value.namespace_definition, value.namespace_definition),
        "prefix": value.prefix,
        "configurations": {"streams": [_stream(stream) for stream in value.catalog.streams if stream.selected]},
        "createdAt": epoch(value.created_at),
        "tags": [],
    }
    if value.namespace_format is not None:
        shown["namespaceFormat"] = value.namespace_format
    if value.status_reason is not None:
        shown["statusReason"] = value.status_reason
    return shown


def workspace(value: Workspace) -> dict[str, Any]:
    """`WorkspaceResponse`."""
    return {"workspaceId": str(value.id), "name": value.name, "dataResidency": "auto", "notifications": {}}


def source(value: Actor) -> dict[str, Any]:
    """`SourceResponse`."""
    return {"sourceId": str(value.id), "sourceType": value.kind, **_actor(value)}


def destination(value: Actor) -> dict[str, Any]:
    """`DestinationResponse`."""
    return {"destinationId": str(value.id), "destinationType": value.kind, **_actor(value)}


def stream_properties(value: CatalogStream) -> dict[str, Any]:
    """`StreamProperties`: what a source offers of one stream."""
    modes = ["full_refresh_overwrite", "full_refresh_append"]
    modes += ["incremental_append", "incremental_deduped_history"] if value.incremental else []
    return {
        "streamName": value.name,
        "syncModes": modes,
        "defaultCursorField": list(value.cursor_field),
        "sourceDefinedCursorField": value.incremental,
        "sourceDefinedPrimaryKey": [list(path) for path in value.primary_key],
        "propertyFields": [[name] for name in value.json_schema.get("properties", {})],
    }


def page(rows: Sequence[dict[str, Any]], path: str, limit: int, offset: int, kept: Mapping[str, str]) -> dict[str, Any]:
    """A page of a listing. `next` is set whenever the page has rows, so the last page is followed by an empty one."""

    def link(to: int) -> str:
        return f"{path}?{urlencode({**kept, 'limit': limit, 'offset': to})}"

    return {
        "previous": link(max(offset - limit, 0)) if offset else "",
        "next": link(offset + limit) if rows else "",
        "data": list(rows),
    }


def masked(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """A connector's configuration without its secrets."""
    return {key: _masked(key, value) for key, value in configuration.items()}


def _masked(key: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return masked(value)
    return SECRET_MASK if isinstance(value, str) and any(word in key for word in _SECRET_KEYS) else value


def _actor(value: Actor) -> dict[str, Any]:
    return {
        "name": value.name,
        "definitionId": str(value.definition_id),
        "workspaceId": str(value.workspace_id),
        "configuration": masked(value.configuration),
        "createdAt": epoch(value.created_at),
    }


def _schedule(value: AirbyteSchedule) -> dict[str, Any]:
    if value.kind == "cron":
        return {"scheduleType": "cron", "cronExpression": f"{value.cron_expression} {value.cron_timezone}"}
    if value.kind == "basic":
        return {"scheduleType": "basic", "basicTiming": f"Every {value.units} {value.time_unit.upper()}"}
    return {"scheduleType": "manual"}


def _stream(value: CatalogStream) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "name": value.name,
        "syncMode": "incremental_deduped_history" if value.incremental else "full_refresh_overwrite_deduped",
        "cursorField": list(value.cursor_field),
        "primaryKey": [list(path) for path in value.primary_key],
        "mappers": [],
    }
    if value.namespace is not None:
        shown["namespace"] = value.namespace
    return shown
