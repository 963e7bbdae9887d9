"""How connections and actors look in the configuration API.

Belongs here: `ConnectionRead`, `WebBackendConnectionRead`, `ConnectionStatusRead`, `SourceRead` and their kin. Does
not belong here: catalogs (`catalog_views`) and jobs (`config_views`).
"""

from __future__ import annotations

from typing import Any

from adinsights_orchestration.local.airbyte import catalog_views, config_views, public_views
from adinsights_orchestration.local.airbyte.model import (
    Actor,
    AirbyteConnection,
    AirbyteSchedule,
    ConfigType,
    ConnectionStatus,
    Job,
    JobStatus,
)
from adinsights_orchestration.local.airbyte.moments import epoch
from adinsights_orchestration.local.airbyte.public_views import Telling

_SYNC_STATUS = {
    JobStatus.RUNNING: "running",
    JobStatus.PENDING: "queued",
    JobStatus.INCOMPLETE: "running",
    JobStatus.FAILED: "failed",
    JobStatus.CANCELLED: "incomplete",
    JobStatus.SUCCEEDED: "synced",
}


def connection(value: AirbyteConnection) -> dict[str, Any]:
    """`ConnectionRead`."""
    shown: dict[str, Any] = {
        "connectionId": str(value.id),
        "name": value.name,
        "namespaceDefinition": value.namespace_definition,
        "prefix": value.prefix,
        "sourceId": str(value.source_id),
        "destinationId": str(value.destination_id),
        "operationIds": [],
        "syncCatalog": catalog_views.catalog(value.catalog),
        **schedule(value.schedule),
        "status": value.status.value,
        "sourceCatalogId": str(value.catalog.id),
        "breakingChange": value.breaking_change,
        "notifySchemaChanges": True,
        "notifySchemaChangesByEmail": False,
        "nonBreakingChangesPreference": value.non_breaking_preference,
        "created_at": epoch(value.created_at),
        "backfillPreference": "disabled",
        "workspaceId": str(value.workspace_id),
        "tags": [],
    }
    if value.namespace_format is not None:
        shown["namespaceFormat"] = value.namespace_format
    if value.status_reason is not None:
        shown["statusReason"] = value.status_reason
    return shown


def schedule(value: AirbyteSchedule) -> dict[str, Any]:
    """The three properties that hold a schedule."""
    if value.kind == "cron":
        cron = {"cronExpression": value.cron_expression, "cronTimeZone": value.cron_timezone}
        return {"scheduleType": "cron", "scheduleData": {"cron": cron}}
    if value.kind == "basic":
        basic = {"timeUnit": value.time_unit, "units": value.units}
        return {"scheduleType": "basic", "scheduleData": {"basicSchedule": basic}, "schedule": basic}
    return {"scheduleType": "manual"}


def read_schedule(body: dict[str, Any], current: AirbyteSchedule) -> AirbyteSchedule:
    """The schedule that an update sets; the current one when it sets none."""
    data = body.get("scheduleData") or {}
    match body.get("scheduleType"):
        case "manual":
            return AirbyteSchedule()
        case "cron":
            cron = data["cron"]
            return AirbyteSchedule("cron", cron_expression=cron["cronExpression"], cron_timezone=cron["cronTimeZone"])
        case "basic":
            basic = data["basicSchedule"]
            return AirbyteSchedule("basic", units=int(basic["units"]), time_unit=basic["timeUnit"])
    return current


def status(value: AirbyteConnection, jobs: list[Job], telling: Telling) -> dict[str, Any]:
    """`ConnectionStatusRead`, from the connection's jobs, oldest first."""
    syncs = [job for job in jobs if job.config_type in (ConfigType.SYNC, ConfigType.REFRESH)]
    shown: dict[str, Any] = {
        "connectionId": str(value.id),
        "connectionSyncStatus": _sync_status(value, syncs),
    }
    if data := schedule(value.schedule).get("scheduleData"):
        shown["scheduleData"] = data
    if jobs and not jobs[-1].terminal:
        shown["activeJob"] = config_views.job(jobs[-1], telling)
    if not syncs:
        return shown
    last = syncs[-1]
    shown["lastSyncJobId"] = last.id
    shown["lastSyncJobCreatedAt"] = epoch(last.created_at + telling.skew)
    succeeded = [job for job in syncs if job.status is JobStatus.SUCCEEDED]
    if succeeded:
        shown["lastSuccessfulSync"] = epoch(succeeded[-1].updated_at + telling.skew)
    if last.attempt is not None:
        shown["lastSyncAttemptNumber"] = last.attempt.number
        if reason := config_views.failure_of(last.attempt, telling):
            shown["failureReason"] = reason
    return shown


def source(value: Actor) -> dict[str, Any]:
    """`SourceRead`."""
    return {"sourceId": str(value.id), "sourceDefinitionId": str(value.definition_id), **_actor(value, "source")}


def destination(value: Actor) -> dict[str, Any]:
    """`DestinationRead`."""
    named = {"destinationId": str(value.id), "destinationDefinitionId": str(value.definition_id)}
    return {**named, **_actor(value, "destination")}


def _actor(value: Actor, kind: str) -> dict[str, Any]:
    return {
        "workspaceId": str(value.workspace_id),
        "name": value.name,
        f"{kind}Name": value.kind,
        "connectionConfiguration": public_views.masked(value.configuration),
        "createdAt": epoch(value.created_at),
    }


def _sync_status(value: AirbyteConnection, syncs: list[Job]) -> str:
    last = syncs[-1] if syncs else None
    if last is not None and not last.terminal:
        return _SYNC_STATUS[last.status]
    if value.status is not ConnectionStatus.ACTIVE:
        return "paused"
    return "pending" if last is None else _SYNC_STATUS[last.status]
