"""The configuration API's jobs, attempts and stream statuses.

Belongs here: one handler per call. Does not belong here: how a job looks (`config_views`), starting one from a
connection (`config_connections`).
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any
from uuid import UUID

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adinsights_orchestration.local.airbyte import config_views, stats
from adinsights_orchestration.local.airbyte.http import (
    BadInputError,
    Served,
    configuration,
    json_object,
    number_of,
    required,
    uuid_of,
)
from adinsights_orchestration.local.airbyte.index import JobQuery
from adinsights_orchestration.local.airbyte.model import Actor, Attempt, ConfigType, Job, JobStatus, NotFoundError
from adinsights_orchestration.local.airbyte.moments import epoch
from adinsights_orchestration.local.airbyte.problems import forbidden
from adinsights_orchestration.local.airbyte.world import AirbyteWorld

AIRBYTE_VERSION = "1.8.0"
_PAGE = 200  # the server's own default
_ACTORS_WITHOUT_JOBS = frozenset(
    {"check_connection_source", "check_connection_destination", "discover_schema", "get_spec"}
)


class ConfigJobs:
    """Handlers of /jobs, /attempt and /stream_statuses."""

    def __init__(self, world: AirbyteWorld) -> None:
        self._world = world
        self._served = Served(world)

    def routes(self) -> list[Route]:
        """The routes, below the configuration API's base path."""
        calls = {
            "/jobs/list": self._list_of_connection,
            "/jobs/list_for_workspaces": self._list_of_workspaces,
            "/jobs/get": self._info,
            "/jobs/get_light": self._light,
            "/jobs/get_without_logs": self._info,
            "/jobs/get_debug_info": self._debug_info,
            "/jobs/cancel": self._cancel,
            "/attempt/get_for_job": self._attempt,
            "/attempt/get_combined_stats": self._attempt_stats,
            "/stream_statuses/list": self._stream_statuses,
        }
        return [Route(path, configuration(handler), methods=["POST"]) for path, handler in calls.items()]

    async def _list_of_connection(self, request: Request) -> Response:
        body = await json_object(request)
        query = self._query(body)
        if body.get("configId"):
            query = replace(query, connection_id=uuid_of(body["configId"], "configId"))
        return self._listed(self._page_of(query, body.get("includingJobId")))

    async def _list_of_workspaces(self, request: Request) -> Response:
        body = await json_object(request)
        # Unlike in the public API, no workspace means no job.
        workspaces = frozenset(uuid_of(one, "workspaceIds") for one in body.get("workspaceIds") or [])
        return self._listed(replace(self._query(body), workspace_ids=workspaces))

    def _listed(self, query: JobQuery) -> Response:
        if self._world.forbids(query):
            return forbidden()
        telling = self._served.telling
        rows = [config_views.job_with_attempts(job, telling) for job in self._world.list_jobs(query)]
        return JSONResponse({"jobs": rows, "totalJobCount": self._world.count_jobs(query)})

    def _query(self, body: dict[str, Any]) -> JobQuery:
        pagination = body.get("pagination") or {}
        moment = self._served.moment
        return JobQuery(
            config_types=_config_types(required(body, "configTypes")),
            statuses=_statuses(body.get("statuses"), queued=self._served.telling.queued),
            created_from=moment(body.get("createdAtStart"), "createdAtStart"),
            created_to=moment(body.get("createdAtEnd"), "createdAtEnd"),
            updated_from=moment(body.get("updatedAtStart"), "updatedAtStart"),
            updated_to=moment(body.get("updatedAtEnd"), "updatedAtEnd"),
            order_by="updatedAt" if body.get("orderByField") == "updatedAt" else "createdAt",
            descending=body.get("orderByMethod", "DESC") == "DESC",
            limit=number_of(pagination.get("pageSize", _PAGE), "pagination.pageSize", least=1),
            offset=number_of(pagination.get("rowOffset", 0), "pagination.rowOffset", least=0),
        )

    def _page_of(self, query: JobQuery, job_id: int | None) -> JobQuery:
        """The listing from its start up to the page that holds a job, as the web interface asks for it."""
        if job_id is None:
            return query
        rows = [job.id for job in self._world.list_jobs(replace(query, offset=0, limit=10_000_000))]
        if job_id not in rows:
            return replace(query, limit=0)
        return replace(query, offset=0, limit=(rows.index(job_id) // query.limit + 1) * query.limit)

    async def _info(self, request: Request) -> Response:
        return JSONResponse(config_views.job_info(await self._named(request), self._served.telling))

    async def _light(self, request: Request) -> Response:
        return JSONResponse({"job": config_views.job(await self._named(request), self._served.telling)})

    async def _debug_info(self, request: Request) -> Response:
        job = await self._named(request)
        connection = self._world.resources.connection(job.connection_id)
        shown = config_views.job_info(job, self._served.telling)
        debug = {key: shown["job"][key] for key in ("id", "configType", "configId", "status")}
        debug["airbyteVersion"] = AIRBYTE_VERSION
        debug["sourceDefinition"] = _definition(self._world.resources.source(connection.source_id), "source")
        debug["destinationDefinition"] = _definition(
            self._world.resources.destination(connection.destination_id), "destination"
        )
        state = {"running": not job.terminal}
        return JSONResponse({"job": debug, "attempts": shown["attempts"], "workflowState": state})

    async def _cancel(self, request: Request) -> Response:
        job = await self._named(request)
        return JSONResponse(config_views.job_info(self._world.cancel(job.id), self._served.telling))

    async def _attempt(self, request: Request) -> Response:
        return JSONResponse(config_views.attempt_info(await self._attempt_of(request), self._served.telling))

    async def _attempt_stats(self, request: Request) -> Response:
        return JSONResponse(config_views.attempt_stats(stats.of_attempt(await self._attempt_of(request))))

    async def _stream_statuses(self, request: Request) -> Response:
        body = await json_object(request)
        workspace_id = uuid_of(required(body, "workspaceId"), "workspaceId")
        rows = [row for job in self._asked_for(body, workspace_id) for row in self._statuses_of(job, body)]
        page = body.get("pagination") or {}
        start = number_of(page.get("rowOffset", 0), "pagination.rowOffset", least=0)
        size = number_of(page.get("pageSize", _PAGE), "pagination.pageSize", least=1)
        return JSONResponse({"streamStatuses": rows[start : start + size]})

    def _asked_for(self, body: dict[str, Any], workspace_id: UUID) -> list[Job]:
        if body.get("jobId") is not None:
            return [self._world.job(number_of(body["jobId"], "jobId", least=0))]
        connection = body.get("connectionId")
        query = JobQuery(
            connection_id=uuid_of(connection, "connectionId") if connection else None,
            workspace_ids=frozenset({workspace_id}),
            descending=True,
            limit=_PAGE,
        )
        return self._world.list_jobs(query)

    def _statuses_of(self, job: Job, body: dict[str, Any]) -> list[dict[str, Any]]:
        number, name = body.get("attemptNumber"), body.get("streamName")
        return [
            self._stream_status(job, attempt, stream.name, stream.namespace)
            for attempt in job.attempts
            for stream in job.streams
            if number in (None, attempt.number) and name in (None, stream.name)
        ]

    def _stream_status(self, job: Job, attempt: Attempt, name: str, namespace: str | None) -> dict[str, Any]:
        state = {"running": "RUNNING", "succeeded": "COMPLETE", "failed": "INCOMPLETE"}[attempt.status]
        moment = (attempt.ended_at or attempt.created_at) + self._served.telling.skew
        shown: dict[str, Any] = {
            "id": str(uuid.uuid5(job.connection_id, f"{job.id}/{attempt.number}/{namespace}/{name}")),
            "jobId": job.id,
            "attemptNumber": attempt.number,
            "connectionId": str(job.connection_id),
            "workspaceId": str(job.workspace_id),
            "jobType": "RESET" if job.config_type is ConfigType.RESET_CONNECTION else "SYNC",
            "runState": state,
            "streamName": name,
            "transitionedAt": epoch(moment) * 1000,
        }
        if state == "INCOMPLETE":
            shown["incompleteRunCause"] = "CANCELED" if job.status is JobStatus.CANCELLED else "FAILED"
        return shown if namespace is None else {**shown, "streamNamespace": namespace}

    async def _named(self, request: Request) -> Job:
        body = await json_object(request)
        return self._world.job(number_of(required(body, "id"), "id", least=0))

    async def _attempt_of(self, request: Request) -> Attempt:
        body = await json_object(request)
        job = self._world.job(number_of(required(body, "jobId"), "jobId", least=0))
        number = number_of(required(body, "attemptNumber"), "attemptNumber", least=0)
        if number >= len(job.attempts):
            raise NotFoundError("attempt", f"{job.id}/{number}")
        return job.attempts[number]


def _config_types(names: object) -> frozenset[ConfigType]:
    if not isinstance(names, list) or not names:
        raise BadInputError("must name at least one type", place="configTypes")
    try:
        return frozenset(ConfigType(name) for name in names if name not in _ACTORS_WITHOUT_JOBS)
    except ValueError:
        raise BadInputError("is not a job type", place="configTypes") from None


def _statuses(names: list[str] | None, *, queued: bool) -> frozenset[JobStatus] | None:
    if not names:
        return None
    waiting = "queued" if queued else "pending"
    try:
        wanted = {JobStatus(name) for name in names if name not in ("queued", "pending")}
    except ValueError:
        raise BadInputError("is not a job status", place="statuses") from None
    return frozenset(wanted | ({JobStatus.PENDING} if waiting in names else set()))


def _definition(actor: Actor, kind: str) -> dict[str, Any]:
    return {
        f"{kind}DefinitionId": str(actor.definition_id),
        "name": actor.kind,
        "dockerRepository": f"airbyte/{kind}-{actor.kind}",
        "dockerImageTag": "1.0.0",
        "documentationUrl": f"https://docs.airbyte.com/integrations/{kind}s/{actor.kind}",
    }
