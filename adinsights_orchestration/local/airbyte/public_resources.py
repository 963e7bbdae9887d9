"""The public API's workspaces, sources, destinations, connections and streams.

Belongs here: one handler class per resource. Does not belong here: jobs (`public_jobs`). An orchestrator only reads
most of these and switches connections on and off; creating and deleting are here because tests and operators do it
over the API.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar
from uuid import UUID

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adinsights_orchestration.local.airbyte import public_views
from adinsights_orchestration.local.airbyte.http import (
    BadInputError,
    json_object,
    number_of,
    public,
    required,
    uuid_of,
)
from adinsights_orchestration.local.airbyte.model import (
    Actor,
    AirbyteConnection,
    AirbyteSchedule,
    Catalog,
    ConnectionStatus,
    NotFoundError,
    Workspace,
)
from adinsights_orchestration.local.airbyte.public_jobs import DEFAULT_PAGE, MAX_PAGE, workspace_ids
from adinsights_orchestration.local.airbyte.registry import DESTINATION_KINDS
from adinsights_orchestration.local.airbyte.world import AirbyteWorld

_PREFERENCES = {
    "ignore": "ignore",
    "disable_connection": "disable",
    "propagate_columns": "propagate_columns",
    "propagate_fully": "propagate_fully",
}
_NAMESPACES = {"source": "source", "destination": "destination", "custom_format": "customformat"}
_Row = TypeVar("_Row")


class PublicConnections:
    """Handlers of /connections and /streams."""

    def __init__(self, world: AirbyteWorld) -> None:
        self._world = world
        self._resources = world.resources

    def routes(self) -> list[Route]:
        """The routes, below the public API's base path."""
        return [
            Route("/connections", public(self._list), methods=["GET"]),
            Route("/connections", public(self._create), methods=["POST"]),
            Route("/connections/{id}", public(self._get), methods=["GET"]),
            Route("/connections/{id}", public(self._patch), methods=["PATCH"]),
            Route("/connections/{id}", public(self._delete), methods=["DELETE"]),
            Route("/streams", public(self._streams), methods=["GET"]),
        ]

    async def _list(self, request: Request) -> Response:
        deleted = request.query_params.get("includeDeleted") == "true"
        rows = self._resources.connections(workspace_ids(request), deleted=deleted)
        return listing(request, self._world, rows, public_views.connection)

    async def _get(self, request: Request) -> Response:
        return JSONResponse(public_views.connection(self._alive(request)))

    async def _create(self, request: Request) -> Response:
        body = await json_object(request)
        source = self._resources.source(uuid_of(required(body, "sourceId"), "sourceId"))
        destination = self._resources.destination(uuid_of(required(body, "destinationId"), "destinationId"))
        created = AirbyteConnection(
            id=uuid.uuid4(),
            workspace_id=source.workspace_id,
            source_id=source.id,
            destination_id=destination.id,
            name=f"{source.name} → {destination.name}",
            catalog=source.discovered or Catalog(uuid.uuid4(), ()),
            created_at=self._world.clock(),
        )
        connection = _patched(created, body)
        self._resources.put(connection)
        return JSONResponse(public_views.connection(connection))

    async def _patch(self, request: Request) -> Response:
        connection = self._alive(request)
        body = await json_object(request)
        return JSONResponse(public_views.connection(self._world.change(connection.id, _patched(connection, body))))

    async def _delete(self, request: Request) -> Response:
        connection = self._alive(request)
        self._world.change(connection.id, replace(connection, status=ConnectionStatus.DEPRECATED))
        return Response(status_code=204)

    async def _streams(self, request: Request) -> Response:
        source = self._resources.source(uuid_of(request.query_params.get("sourceId"), "sourceId"))
        used = (c.catalog for c in self._resources.connections() if c.source_id == source.id)
        catalog = source.discovered or next(used, None)
        return JSONResponse([public_views.stream_properties(s) for s in catalog.streams] if catalog else [])

    def _alive(self, request: Request) -> AirbyteConnection:
        connection = self._resources.connection(uuid_of(request.path_params["id"], "connectionId"))
        if connection.status is ConnectionStatus.DEPRECATED:
            raise NotFoundError("connection", connection.id)
        return connection


class PublicWorkspaces:
    """Handlers of /workspaces."""

    def __init__(self, world: AirbyteWorld) -> None:
        self._world = world
        self._resources = world.resources

    def routes(self) -> list[Route]:
        """The routes, below the public API's base path."""
        return [
            Route("/workspaces", public(self._list), methods=["GET"]),
            Route("/workspaces", public(self._create), methods=["POST"]),
            Route("/workspaces/{id}", public(self._get), methods=["GET"]),
            Route("/workspaces/{id}", public(self._patch), methods=["PATCH"]),
            Route("/workspaces/{id}", public(self._delete), methods=["DELETE"]),
        ]

    async def _list(self, request: Request) -> Response:
        wanted = workspace_ids(request)
        rows = [row for row in self._resources.workspaces() if wanted is None or row.id in wanted]
        hidden = self._world.knobs.get("forbidden")
        rows = [row for row in rows if str(row.id) not in hidden]
        return listing(request, self._world, rows, public_views.workspace)

    async def _get(self, request: Request) -> Response:
        return JSONResponse(public_views.workspace(self._named(request)))

    async def _create(self, request: Request) -> Response:
        workspace = Workspace(uuid.uuid4(), str(required(await json_object(request), "name")))
        self._resources.put(workspace)
        return JSONResponse(public_views.workspace(workspace))

    async def _patch(self, request: Request) -> Response:
        workspace = self._named(request)
        workspace = replace(workspace, name=str((await json_object(request)).get("name", workspace.name)))
        self._resources.put(workspace)
        return JSONResponse(public_views.workspace(workspace))

    async def _delete(self, request: Request) -> Response:
        self._resources.forget_workspace(self._named(request).id)
        return Response(status_code=204)

    def _named(self, request: Request) -> Workspace:
        return self._resources.workspace(uuid_of(request.path_params["id"], "workspaceId"))


class PublicActors:
    """Handlers of /sources or of /destinations, which differ in their names only.

    Args:
        world: The server.
        kind: `source` or `destination`.
    """

    def __init__(self, world: AirbyteWorld, kind: str) -> None:
        self._world = world
        self._kind = kind
        resources = world.resources
        self._find: Callable[[UUID], Actor] = resources.source if kind == "source" else resources.destination
        self._all = resources.sources if kind == "source" else resources.destinations
        self._show = public_views.source if kind == "source" else public_views.destination

    def routes(self) -> list[Route]:
        """The routes, below the public API's base path."""
        path = f"/{self._kind}s"
        return [
            Route(path, public(self._list), methods=["GET"]),
            Route(path, public(self._create), methods=["POST"]),
            Route(f"{path}/{{id}}", public(self._get), methods=["GET"]),
            Route(f"{path}/{{id}}", public(self._update), methods=["PATCH", "PUT"]),
            Route(f"{path}/{{id}}", public(self._delete), methods=["DELETE"]),
        ]

    async def _list(self, request: Request) -> Response:
        deleted = request.query_params.get("includeDeleted") == "true"
        rows = self._all(workspace_ids(request), deleted=deleted)
        return listing(request, self._world, rows, self._show)

    async def _get(self, request: Request) -> Response:
        return JSONResponse(self._show(self._named(request)))

    async def _create(self, request: Request) -> Response:
        body = await json_object(request)
        configuration = dict(required(body, "configuration"))
        workspace_id = uuid_of(required(body, "workspaceId"), "workspaceId")
        kind = str(configuration.get(f"{self._kind}Type", "postgres" if self._kind == "destination" else "custom"))
        if (kind in DESTINATION_KINDS) != (self._kind == "destination"):
            raise BadInputError(f"is not a {self._kind} that this server has", place="configuration")
        actor = Actor(
            id=uuid.uuid4(),
            workspace_id=self._world.resources.workspace(workspace_id).id,
            name=str(required(body, "name")),
            kind=kind,
            definition_id=uuid.uuid5(uuid.NAMESPACE_URL, f"airbyte/{kind}"),
            configuration=configuration,
            created_at=self._world.clock(),
        )
        self._world.resources.put(actor)
        return JSONResponse(self._show(actor))

    async def _update(self, request: Request) -> Response:
        actor = self._named(request)
        body = await json_object(request)
        kept = {} if request.method == "PUT" else actor.configuration
        actor = replace(
            actor,
            name=str(body.get("name", actor.name)),
            configuration={**kept, **body.get("configuration", {})},
        )
        self._world.resources.put(actor)
        return JSONResponse(self._show(actor))

    async def _delete(self, request: Request) -> Response:
        actor = self._named(request)
        self._world.resources.put(replace(actor, deleted=True))
        for connection in self._world.resources.connections():
            if actor.id in (connection.source_id, connection.destination_id):
                self._world.resources.put(replace(connection, status=ConnectionStatus.DEPRECATED))
        return Response(status_code=204)

    def _named(self, request: Request) -> Actor:
        return self._find(uuid_of(request.path_params["id"], f"{self._kind}Id"))


def listing(
    request: Request, world: AirbyteWorld, rows: Sequence[_Row], show: Callable[[_Row], dict[str, Any]]
) -> Response:
    """One page of rows that are all at hand."""
    given = request.query_params
    limit = number_of(given.get("limit", DEFAULT_PAGE), "limit", least=1, most=MAX_PAGE)
    offset = number_of(given.get("offset", 0), "offset", least=0)
    first = 0 if world.knobs.get("repeat_page") else offset
    kept = {name: given[name] for name in ("workspaceIds", "includeDeleted") if name in given}
    page = [show(row) for row in rows[first : first + limit]]
    return JSONResponse(public_views.page(page, str(request.url.replace(query="")), limit, offset, kept))


def _patched(connection: AirbyteConnection, body: dict[str, Any]) -> AirbyteConnection:
    """The connection with what a create or patch request says."""
    status = _one_of(
        body.get("status", connection.status.value), {s.value: s.value for s in ConnectionStatus}, "status"
    )
    preference = body.get("nonBreakingSchemaUpdatesBehavior")
    namespace = body.get("namespaceDefinition")
    return replace(
        connection,
        name=body.get("name", connection.name),
        status=ConnectionStatus(status),
        status_reason=connection.status_reason if status == connection.status else None,
        schedule=_schedule(body["schedule"]) if body.get("schedule") else connection.schedule,
        prefix=body.get("prefix", connection.prefix),
        namespace_format=body.get("namespaceFormat", connection.namespace_format),
        namespace_definition=(
            _one_of(namespace, _NAMESPACES, "namespaceDefinition") if namespace else connection.namespace_definition
        ),
        non_breaking_preference=(
            _one_of(preference, _PREFERENCES, "nonBreakingSchemaUpdatesBehavior")
            if preference
            else connection.non_breaking_preference
        ),
        catalog=_selected(connection.catalog, body.get("configurations")),
    )


def _selected(catalog: Catalog, configurations: dict[str, Any] | None) -> Catalog:
    if not configurations or not configurations.get("streams"):
        return catalog
    names = {stream["name"] for stream in configurations["streams"]}
    return replace(catalog, streams=tuple(replace(s, selected=s.name in names) for s in catalog.streams))


def _schedule(body: dict[str, Any]) -> AirbyteSchedule:
    if body.get("scheduleType") == "manual":
        return AirbyteSchedule()
    if body.get("scheduleType") != "cron" or not body.get("cronExpression"):
        raise BadInputError("must be manual, or cron with a cronExpression", place="schedule")
    expression, _, timezone = str(body["cronExpression"]).rpartition(" ")
    if "/" in timezone or timezone == "UTC":
        return AirbyteSchedule("cron", cron_expression=expression, cron_timezone=timezone)
    return AirbyteSchedule("cron", cron_expression=str(body["cronExpression"]))


def _one_of(value: object, known: dict[str, str], place: str) -> str:
    if value not in known:
        raise BadInputError(f"must be one of {', '.join(known)}", place=place)
    return known[str(value)]
