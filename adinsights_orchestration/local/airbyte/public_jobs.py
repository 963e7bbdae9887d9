"""The public API's jobs: start, watch, list, cancel.

Belongs here: parameters in, `JobResponse` out, and the faults of POST /jobs. Does not belong here: what starting
means (`world`). Two traps of the real API are kept: a listing without `jobType` shows syncs and resets only, and the
links to other pages forget every filter but the job type and the connection or workspaces.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal
from uuid import UUID

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adinsights_orchestration.local.airbyte import public_views
from adinsights_orchestration.local.airbyte.http import (
    BadInputError,
    Served,
    json_object,
    number_of,
    public,
    required,
    uuid_of,
)
from adinsights_orchestration.local.airbyte.index import JobQuery
from adinsights_orchestration.local.airbyte.model import (
    AlreadyRunningError,
    ConfigType,
    Job,
    JobStatus,
    NotActiveError,
    NotFoundError,
)
from adinsights_orchestration.local.airbyte.problems import forbidden, unprocessable
from adinsights_orchestration.local.airbyte.world import AirbyteWorld
from adinsights_orchestration.local.knobs import KnobArea
from adinsights_orchestration.local.serving import drop_connection

_CONFIG_TYPES = {
    "sync": ConfigType.SYNC,
    "reset": ConfigType.RESET_CONNECTION,
    "clear": ConfigType.CLEAR,
    "refresh": ConfigType.REFRESH,
}
_LISTED_BY_DEFAULT = frozenset({ConfigType.SYNC, ConfigType.RESET_CONNECTION})
_STARTED = {"sync": ConfigType.SYNC, "reset": ConfigType.RESET_CONNECTION, "clear": ConfigType.RESET_CONNECTION}
MAX_PAGE = 100
DEFAULT_PAGE = 20


class Turnstile:
    """The server's threads for POST /jobs: so many pass at once, each for so long."""

    def __init__(self, knobs: KnobArea) -> None:
        self._knobs = knobs
        self._threads = 0
        self._gate = asyncio.Semaphore(0)

    @asynccontextmanager
    async def passing(self) -> AsyncIterator[None]:
        """Waits for a thread and keeps it for its time."""
        threads = self._knobs.get("post_threads")
        if not threads:
            yield
            await self._work()
            return
        if threads != self._threads:
            self._threads, self._gate = threads, asyncio.Semaphore(threads)
        async with self._gate:
            yield
            await self._work()

    async def _work(self) -> None:
        if busy := self._knobs.get("post_ms"):
            await asyncio.sleep(busy / 1000)


class PublicJobs:
    """Handlers of /jobs."""

    def __init__(self, world: AirbyteWorld) -> None:
        self._world = world
        self._served = Served(world)
        self._turnstile = Turnstile(world.knobs)

    def routes(self) -> list[Route]:
        """The routes, below the public API's base path."""
        return [
            Route("/jobs", public(self._list), methods=["GET"]),
            Route("/jobs", public(self._create), methods=["POST"]),
            Route("/jobs/{job_id}", public(self._get), methods=["GET"]),
            Route("/jobs/{job_id}", public(self._cancel), methods=["DELETE"]),
        ]

    async def _create(self, request: Request) -> Response:
        body = await json_object(request)
        connection_id = uuid_of(required(body, "connectionId"), "connectionId")
        kind = required(body, "jobType")
        if kind not in _CONFIG_TYPES:
            raise BadInputError("is not a job type", place="jobType")
        if kind not in _STARTED:
            return unprocessable("A refresh cannot be started here")
        async with self._turnstile.passing():
            job = self._start(connection_id, _STARTED[kind])
            reply = self._shown(job)
        knobs = self._world.knobs
        if delay := knobs.get("post_slow_ms"):
            await asyncio.sleep(delay / 1000)
        if knobs.take("post_lost_reply_next"):
            drop_connection(request.scope)
        return reply

    def _start(self, connection_id: UUID, config_type: ConfigType) -> Job:
        knobs = self._world.knobs
        if knobs.take("conflict_running_next"):
            raise AlreadyRunningError(f"A sync is already running for: {connection_id}")
        if knobs.take("conflict_state_next"):
            raise NotActiveError("Can only sync an active connection")
        connection = self._world.resources.connection(connection_id)
        if connection.status.value == "deprecated":
            raise NotFoundError("connection", connection_id)
        return self._world.start(connection_id, config_type)

    async def _get(self, request: Request) -> Response:
        return self._shown(self._world.job(number_of(request.path_params["job_id"], "jobId", least=0)))

    async def _cancel(self, request: Request) -> Response:
        job_id = number_of(request.path_params["job_id"], "jobId", least=0)
        self._world.job(job_id)
        return self._shown(self._world.cancel(job_id))

    async def _list(self, request: Request) -> Response:
        query = self._query(request)
        if self._world.forbids(query):
            return forbidden()
        telling = self._served.telling
        rows = [public_views.job(job, telling) for job in self._world.list_jobs(query)]
        kept = {name: request.query_params[name] for name in _KEPT_IN_LINKS if name in request.query_params}
        path = str(request.url.replace(query=""))
        return JSONResponse(public_views.page(rows, path, query.limit, query.offset, kept))

    def _query(self, request: Request) -> JobQuery:
        given = request.query_params
        connection = given.get("connectionId")
        order_by, descending = _order(given.get("orderBy"))
        moment = self._served.moment
        return JobQuery(
            connection_id=uuid_of(connection, "connectionId") if connection else None,
            workspace_ids=None if connection else workspace_ids(request),
            config_types=_config_types(given.get("jobType")),
            statuses=_statuses(given.get("status"), queued=self._served.telling.queued),
            created_from=moment(given.get("createdAtStart"), "createdAtStart"),
            created_to=moment(given.get("createdAtEnd"), "createdAtEnd"),
            updated_from=moment(given.get("updatedAtStart"), "updatedAtStart"),
            updated_to=moment(given.get("updatedAtEnd"), "updatedAtEnd"),
            order_by=order_by,
            descending=descending,
            limit=number_of(given.get("limit", DEFAULT_PAGE), "limit", least=1, most=MAX_PAGE),
            offset=number_of(given.get("offset", 0), "offset", least=0),
        )

    def _shown(self, job: Job) -> Response:
        return JSONResponse(public_views.job(job, self._served.telling))


_KEPT_IN_LINKS = ("jobType", "connectionId", "workspaceIds")


def workspace_ids(request: Request) -> frozenset[UUID] | None:
    """The workspaces that a listing names, repeated or comma separated; None for all."""
    given = [part for value in request.query_params.getlist("workspaceIds") for part in value.split(",") if part]
    return frozenset(uuid_of(part, "workspaceIds") for part in given) or None


def _config_types(kind: str | None) -> frozenset[ConfigType]:
    if kind is None:
        return _LISTED_BY_DEFAULT
    if kind not in _CONFIG_TYPES:
        raise BadInputError("is not a job type", place="jobType")
    return frozenset({_CONFIG_TYPES[kind]})


def _statuses(status: str | None, *, queued: bool) -> frozenset[JobStatus] | None:
    if status is None:
        return None
    if status == "queued":
        return frozenset({JobStatus.PENDING}) if queued else frozenset()
    if status == "pending" and queued:
        return frozenset()
    try:
        return frozenset({JobStatus(status)})
    except ValueError:
        raise BadInputError("is not a job status", place="status") from None


def _order(order: str | None) -> tuple[Literal["createdAt", "updatedAt"], bool]:
    if order is None:
        return "createdAt", False
    field, _, method = order.partition("|")
    if method not in ("ASC", "DESC"):
        raise BadInputError("must be FIELD|ASC or FIELD|DESC", place="orderBy")
    if field == "createdAt":
        return "createdAt", method == "DESC"
    if field == "updatedAt":
        return "updatedAt", method == "DESC"
    raise BadInputError("must order by createdAt or updatedAt", place="orderBy")
