"""The configuration API's connections: read, sync, reset, clear, refresh, progress; and its workspaces and actors.

Belongs here: one handler per call. Does not belong here: schema changes (`config_schema`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adinsights_orchestration.local.airbyte import config_views, connection_views, public_views, stats
from adinsights_orchestration.local.airbyte.http import (
    BadInputError,
    Served,
    configuration,
    json_object,
    required,
    uuid_of,
)
from adinsights_orchestration.local.airbyte.model import (
    AirbyteConnection,
    ConfigType,
    Job,
    JobStatus,
    StreamName,
    StreamStats,
)
from adinsights_orchestration.local.airbyte.moments import epoch
from adinsights_orchestration.local.airbyte.world import AirbyteWorld

_REFRESH_MODES = ("Merge", "Truncate")


class ConfigConnections:
    """Handlers of /connections, /state, /workspaces, /sources and /destinations."""

    def __init__(self, world: AirbyteWorld) -> None:
        self._world = world
        self._resources = world.resources
        self._served = Served(world)

    def routes(self) -> list[Route]:
        """The routes, below the configuration API's base path."""
        calls = {
            "/connections/get": self._get,
            "/connections/list": self._list,
            "/connections/status": self._statuses,
            "/connections/sync": self._sync,
            "/connections/reset": self._reset,
            "/connections/reset/stream": self._reset_streams,
            "/connections/clear": self._reset,
            "/connections/clear/stream": self._reset_streams,
            "/connections/refresh": self._refresh,
            "/connections/last_job_per_stream": self._last_job_per_stream,
            "/connections/sync_progress": self._progress,
            "/state/get": self._state,
            "/workspaces/list": self._workspaces,
            "/sources/get": self._actor("sourceId", self._resources.source, connection_views.source),
            "/destinations/get": self._actor(
                "destinationId", self._resources.destination, connection_views.destination
            ),
        }
        return [Route(path, configuration(handler), methods=["POST"]) for path, handler in calls.items()]

    async def _get(self, request: Request) -> Response:
        connection = self._named(await json_object(request))
        return JSONResponse(connection_views.connection(connection))

    async def _list(self, request: Request) -> Response:
        workspace_id = uuid_of(required(await json_object(request), "workspaceId"), "workspaceId")
        rows = self._resources.connections(frozenset({workspace_id}))
        return JSONResponse({"connections": [connection_views.connection(row) for row in rows]})

    async def _statuses(self, request: Request) -> Response:
        ids = required(await json_object(request), "connectionIds")
        self._world.settle()
        return JSONResponse([self._status(uuid_of(one, "connectionIds")) for one in ids])

    def _status(self, connection_id: UUID) -> dict[str, Any]:
        connection = self._resources.connection(connection_id)
        return connection_views.status(connection, self._world.jobs.of_connection(connection_id), self._served.telling)

    async def _sync(self, request: Request) -> Response:
        connection = self._named(await json_object(request))
        return self._info(self._world.start(connection.id, ConfigType.SYNC))

    async def _reset(self, request: Request) -> Response:
        connection = self._named(await json_object(request))
        return self._info(self._world.start(connection.id, ConfigType.RESET_CONNECTION))

    async def _reset_streams(self, request: Request) -> Response:
        body = await json_object(request)
        connection, streams = self._named(body), _streams(required(body, "streams"))
        return self._info(self._world.start(connection.id, ConfigType.RESET_CONNECTION, streams))

    async def _refresh(self, request: Request) -> Response:
        body = await json_object(request)
        mode = required(body, "refreshMode")
        if mode not in _REFRESH_MODES:
            raise BadInputError(f"must be one of {', '.join(_REFRESH_MODES)}", place="refreshMode")
        job = self._world.refresh(self._named(body).id, mode, _streams(body.get("streams") or []))
        return JSONResponse({} if job is None else {"job": config_views.job(job, self._served.telling)})

    async def _last_job_per_stream(self, request: Request) -> Response:
        connection = self._named(await json_object(request))
        self._world.settle()
        newest: dict[StreamName, tuple[Job, StreamStats]] = {}
        for job in self._world.jobs.of_connection(connection.id):
            for stream in stats.by_stream(job) if job.terminal else ():
                newest[StreamName(stream.name, stream.namespace)] = (job, stream)
        return JSONResponse([self._last_job(job, stream) for job, stream in newest.values()])

    def _last_job(self, job: Job, stream: StreamStats) -> dict[str, Any]:
        skew = self._served.telling.skew
        return {
            "streamName": stream.name,
            "streamNamespace": stream.namespace or "",
            "jobId": job.id,
            "configType": job.config_type.value,
            "jobStatus": job.status.value,
            "recordsCommitted": stream.records_committed,
            "bytesCommitted": stream.bytes_committed,
            "startedAt": epoch((job.started_at or job.created_at) + skew),
            "endedAt": epoch(job.updated_at + skew),
        }

    async def _progress(self, request: Request) -> Response:
        connection = self._named(await json_object(request))
        self._world.settle()
        job = self._world.jobs.running(connection.id)
        shown: dict[str, Any] = {"connectionId": str(connection.id), "streams": [], "configType": "sync"}
        if job is None:
            return JSONResponse(shown)
        total = stats.total(job)
        shown |= {
            "jobId": job.id,
            "configType": job.config_type.value,
            "syncStartedAt": epoch((job.started_at or job.created_at) + self._served.telling.skew),
            "streams": [_stream_progress(job, stream) for stream in stats.by_stream(job)],
            **_progress_counts(total),
        }
        return JSONResponse(shown)

    async def _state(self, request: Request) -> Response:
        connection = self._named(await json_object(request))
        self._world.settle()
        shown: dict[str, Any] = {"connectionId": str(connection.id), "stateType": "not_set"}
        if self._has_state(connection):
            kept = [stream for stream in connection.catalog.streams if stream.selected and stream.incremental]
            states = [{"streamDescriptor": config_views.descriptor(s.descriptor), "streamState": {}} for s in kept]
            shown |= {"stateType": "stream", "streamState": states}
        return JSONResponse(shown)

    def _has_state(self, connection: AirbyteConnection) -> bool:
        """Whether a sync succeeded after the last reset."""
        for job in reversed(self._world.jobs.of_connection(connection.id)):
            if job.status is JobStatus.SUCCEEDED:
                return job.config_type is not ConfigType.RESET_CONNECTION
        return False

    async def _workspaces(self, _: Request) -> Response:
        rows = [public_views.workspace(row) for row in self._resources.workspaces()]
        return JSONResponse({"workspaces": [{"workspaceId": row["workspaceId"], "name": row["name"]} for row in rows]})

    def _actor(self, name: str, find: Callable[[UUID], Any], show: Callable[[Any], dict[str, Any]]) -> Any:
        async def handler(request: Request) -> Response:
            return JSONResponse(show(find(uuid_of(required(await json_object(request), name), name))))

        return handler

    def _info(self, job: Job) -> Response:
        return JSONResponse(config_views.job_info(job, self._served.telling))

    def _named(self, body: dict[str, Any]) -> AirbyteConnection:
        return self._resources.connection(uuid_of(required(body, "connectionId"), "connectionId"))


def _streams(listed: list[dict[str, Any]]) -> tuple[StreamName, ...]:
    return tuple(StreamName(str(one["streamName"]), one.get("streamNamespace")) for one in listed)


def _progress_counts(value: StreamStats) -> dict[str, int]:
    return {
        "recordsEmitted": value.records_emitted,
        "recordsCommitted": value.records_committed,
        "recordsRejected": 0,
        "bytesEmitted": value.bytes_emitted,
        "bytesCommitted": value.bytes_committed,
    }


def _stream_progress(job: Job, value: StreamStats) -> dict[str, Any]:
    shown = {"streamName": value.name, "configType": job.config_type.value, **_progress_counts(value)}
    return shown if value.namespace is None else {**shown, "streamNamespace": value.namespace}
