"""The configuration API's schema changes: discover, see the difference, propagate or approve it.

Belongs here: /sources/discover_schema, /connections/update, /connections/apply_schema_change and the web backend's two
calls, which are how a person (or a tool) approves a breaking change. Does not belong here: what is a breaking change
(`catalogs`).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adinsights_orchestration.errors import AdinsightsError
from adinsights_orchestration.local.airbyte import catalog_views, catalogs, connection_views
from adinsights_orchestration.local.airbyte.http import (
    BadInputError,
    Served,
    configuration,
    json_object,
    required,
    uuid_of,
)
from adinsights_orchestration.local.airbyte.model import (
    Actor,
    AirbyteConnection,
    Catalog,
    CatalogStream,
    ConfigType,
    ConnectionStatus,
)
from adinsights_orchestration.local.airbyte.moments import epoch
from adinsights_orchestration.local.airbyte.world import AirbyteWorld

_PROPAGATING = ("propagate_columns", "propagate_fully")


Discover = Callable[[Actor], Awaitable[tuple[CatalogStream, ...]]]
log = structlog.get_logger(component="local.airbyte.schema")


class ConfigSchema:
    """Handlers of everything that has to do with catalogs."""

    def __init__(self, world: AirbyteWorld, discover: Discover | None = None) -> None:
        self._world = world
        self._ask = discover
        self._resources = world.resources
        self._served = Served(world)

    def routes(self) -> list[Route]:
        """The routes, below the configuration API's base path."""
        calls = {
            "/sources/discover_schema": self._discover,
            "/connections/update": self._update,
            "/connections/apply_schema_change": self._apply,
            "/web_backend/connections/get": self._web_get,
            "/web_backend/connections/update": self._web_update,
        }
        return [Route(path, configuration(handler), methods=["POST"]) for path, handler in calls.items()]

    async def _discover(self, request: Request) -> Response:
        body = await json_object(request)
        source = self._resources.source(uuid_of(required(body, "sourceId"), "sourceId"))
        now = epoch(self._world.clock() + self._served.telling.skew)
        succeeded = await self._rediscovered(source)
        catalog = self._offered(self._resources.source(source.id))
        shown: dict[str, Any] = {
            "catalog": catalog_views.catalog(catalog),
            "catalogId": str(catalog.id),
            "jobInfo": {
                "id": str(uuid.uuid4()),
                "configType": "discover_schema",
                "configId": str(source.definition_id),
                "createdAt": now,
                "endedAt": now,
                "succeeded": succeeded,
                "connectorConfigurationUpdated": False,
                "logType": "formatted",
                "logs": {"logLines": []},
            },
        }
        if body.get("connectionId"):
            shown |= self._compared(self._named(body))
        return JSONResponse(shown)

    def _compared(self, connection: AirbyteConnection) -> dict[str, Any]:
        """What a discovery for one connection adds; a breaking change switches the connection off."""
        changes = catalogs.difference(connection.catalog, self._latest(connection))
        if catalogs.breaks(changes) and connection.status is ConnectionStatus.ACTIVE:
            connection = replace(
                connection,
                breaking_change=True,
                status=ConnectionStatus.INACTIVE,
                status_reason="SCHEMA_CHANGES_ARE_BREAKING",
            )
            self._resources.put(connection)
        return {
            "catalogDiff": catalog_views.difference(changes),
            "breakingChange": catalogs.breaks(changes),
            "connectionStatus": connection.status.value,
        }

    async def _update(self, request: Request) -> Response:
        body = await json_object(request)
        connection = self._named(body)
        return JSONResponse(connection_views.connection(self._world.change(connection.id, _patched(connection, body))))

    async def _apply(self, request: Request) -> Response:
        """Propagates a change that may be propagated; a breaking one, or an unwilling connection, stays as it is."""
        body = await json_object(request)
        connection = self._named(body)
        required(body, "workspaceId")
        offered = catalog_views.read(required(body, "catalog"), uuid_of(required(body, "catalogId"), "catalogId"))
        changes = catalogs.difference(connection.catalog, offered)
        if not changes or catalogs.breaks(changes) or connection.non_breaking_preference not in _PROPAGATING:
            return JSONResponse({})
        changed = replace(connection, catalog=catalogs.merged(connection.catalog, offered))
        self._world.change(connection.id, changed)
        return JSONResponse({"propagatedDiff": catalog_views.difference(changes)})

    async def _web_get(self, request: Request) -> Response:
        body = await json_object(request)
        connection = self._named(body)
        refreshed = bool(body.get("withRefreshedCatalog"))
        if refreshed:
            await self._rediscovered(self._resources.source(connection.source_id))
        return JSONResponse(self._web_view(self._named(body), refreshed=refreshed))

    async def _web_update(self, request: Request) -> Response:
        """Takes over the catalog that the caller approves; what it changes is reset first unless told otherwise."""
        body = await json_object(request)
        connection = self._named(body)
        before = connection.catalog
        changed = _patched(connection, body)
        if body.get("syncCatalog"):
            breaking = catalogs.breaks(catalogs.difference(changed.catalog, self._latest(connection)))
            changed = replace(changed, breaking_change=breaking)
        changed = self._world.change(connection.id, changed)
        touched = {change.stream.descriptor for change in catalogs.difference(before, changed.catalog)}
        if touched and not body.get("skipReset", False):
            self._world.start(connection.id, ConfigType.RESET_CONNECTION, tuple(touched))
        return JSONResponse(self._web_view(self._resources.connection(connection.id), refreshed=False))

    def _web_view(self, connection: AirbyteConnection, *, refreshed: bool) -> dict[str, Any]:
        """`WebBackendConnectionRead`."""
        source = self._resources.source(connection.source_id)
        destination = self._resources.destination(connection.destination_id)
        offered = self._latest(connection)
        changes = catalogs.difference(connection.catalog, offered)
        shown = connection_views.connection(connection)
        del shown["operationIds"], shown["sourceCatalogId"], shown["workspaceId"], shown["breakingChange"]
        running = self._world.jobs.running(connection.id)
        shown |= {
            "source": connection_views.source(source),
            "destination": connection_views.destination(destination),
            "operations": [],
            "catalogId": str(connection.catalog.id),
            "isSyncing": running is not None,
            "schemaChange": "breaking" if connection.breaking_change else catalogs.verdict(changes),
        }
        if refreshed:
            shown["syncCatalog"] = catalog_views.catalog(catalogs.merged(connection.catalog, offered))
            shown["catalogId"] = str(offered.id)
            shown["catalogDiff"] = catalog_views.difference(changes)
        jobs = self._world.jobs.of_connection(connection.id)
        if jobs:
            shown["latestSyncJobCreatedAt"] = epoch(jobs[-1].created_at + self._served.telling.skew)
            shown["latestSyncJobStatus"] = self._served.telling.status(jobs[-1].status)
        return shown

    async def _rediscovered(self, source: Actor) -> bool:
        """Asks the source what it offers and keeps the answer; False when it failed, and the last answer stays."""
        if self._ask is None or (source.discovered is not None and source.discovered.simulated):
            return True
        try:
            streams = await self._ask(source)
        except AdinsightsError as error:
            log.warning("airbyte.discover_failed", source=source.name, reason=error.problem)
            return False
        digest = json.dumps([[stream.name, dict(stream.json_schema)] for stream in streams], sort_keys=True)
        catalog = Catalog(uuid.uuid5(source.id, digest), streams)
        self._resources.put(replace(self._resources.source(source.id), discovered=catalog))
        return True

    def _offered(self, source: Actor) -> Catalog:
        used = (c.catalog for c in self._resources.connections() if c.source_id == source.id)
        return source.discovered or next(used, None) or Catalog(uuid.uuid5(source.id, "catalog"), ())

    def _latest(self, connection: AirbyteConnection) -> Catalog:
        """What the connection's source offers, by its newest discovery."""
        return self._resources.source(connection.source_id).discovered or connection.catalog

    def _named(self, body: dict[str, Any]) -> AirbyteConnection:
        return self._resources.connection(uuid_of(required(body, "connectionId"), "connectionId"))


def _patched(connection: AirbyteConnection, body: dict[str, Any]) -> AirbyteConnection:
    """The connection with what `ConnectionUpdate` says."""
    try:
        status = ConnectionStatus(body.get("status", connection.status))
        schedule = connection_views.read_schedule(body, connection.schedule)
    except (KeyError, TypeError, ValueError):
        raise BadInputError("the status or schedule is not one", place="status, scheduleData") from None
    catalog = connection.catalog
    if body.get("syncCatalog"):
        catalog_id = uuid_of(body.get("sourceCatalogId") or catalog.id, "sourceCatalogId")
        catalog = catalog_views.read(body["syncCatalog"], catalog_id)
    return replace(
        connection,
        name=body.get("name", connection.name),
        status=status,
        status_reason=None if status is ConnectionStatus.ACTIVE else connection.status_reason,
        schedule=schedule,
        catalog=catalog,
        prefix=body.get("prefix", connection.prefix),
        non_breaking_preference=body.get("nonBreakingChangesPreference", connection.non_breaking_preference),
    )
