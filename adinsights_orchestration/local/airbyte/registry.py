"""Everything of the server but its jobs: workspaces, sources, destinations, connections.

Belongs here: finding them and putting a new form in place. Does not belong here: rules about when that is allowed
(`world`, the handlers). Deleted connections stay, as `deprecated`, since their jobs still name them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar
from uuid import UUID

from adinsights_orchestration.local.airbyte.model import (
    Actor,
    AirbyteConnection,
    ConnectionStatus,
    NotFoundError,
    Workspace,
)

Resource = Workspace | Actor | AirbyteConnection
_T = TypeVar("_T")
DESTINATION_KINDS = frozenset({"postgres"})


class Resources:
    """The server's resources, in the order they were made. The world's lock guards it."""

    def __init__(self, on_change: Callable[[Resource], None] | None = None) -> None:
        self._on_change = on_change
        self._workspaces: dict[UUID, Workspace] = {}
        self._sources: dict[UUID, Actor] = {}
        self._destinations: dict[UUID, Actor] = {}
        self._connections: dict[UUID, AirbyteConnection] = {}

    def put(self, *resources: Resource) -> None:
        """Makes resources known, or puts their new form in place, and keeps them."""
        for resource in resources:
            self.restore(resource)
            if self._on_change is not None:
                self._on_change(resource)

    def restore(self, resource: Resource) -> None:
        """Makes a resource known without keeping it again."""
        match resource:
            case Workspace():
                self._workspaces[resource.id] = resource
            case AirbyteConnection():
                self._connections[resource.id] = resource
            case Actor():
                (self._destinations if is_destination(resource) else self._sources)[resource.id] = resource

    def forget_workspace(self, workspace_id: UUID) -> None:
        """Removes a workspace."""
        self.workspace(workspace_id)
        del self._workspaces[workspace_id]

    def workspace(self, workspace_id: UUID) -> Workspace:
        """Returns the workspace, or raises `NotFoundError`."""
        return _found(self._workspaces.get(workspace_id), "workspace", workspace_id)

    def source(self, source_id: UUID) -> Actor:
        """Returns the source, or raises `NotFoundError`."""
        return _found(_alive(self._sources.get(source_id)), "source", source_id)

    def destination(self, destination_id: UUID) -> Actor:
        """Returns the destination, or raises `NotFoundError`."""
        return _found(_alive(self._destinations.get(destination_id)), "destination", destination_id)

    def connection(self, connection_id: UUID) -> AirbyteConnection:
        """Returns the connection, deleted ones included, or raises `NotFoundError`."""
        return _found(self._connections.get(connection_id), "connection", connection_id)

    def workspaces(self) -> list[Workspace]:
        """Every workspace."""
        return list(self._workspaces.values())

    def sources(self, workspace_ids: frozenset[UUID] | None = None, *, deleted: bool = False) -> list[Actor]:
        """The sources of some workspaces, or of all."""
        return _of(self._sources.values(), workspace_ids, deleted)

    def destinations(self, workspace_ids: frozenset[UUID] | None = None, *, deleted: bool = False) -> list[Actor]:
        """The destinations of some workspaces, or of all."""
        return _of(self._destinations.values(), workspace_ids, deleted)

    def connections(
        self, workspace_ids: frozenset[UUID] | None = None, *, deleted: bool = False
    ) -> list[AirbyteConnection]:
        """The connections of some workspaces, or of all; deleted ones only when asked for."""
        return [
            connection
            for connection in self._connections.values()
            if (workspace_ids is None or connection.workspace_id in workspace_ids)
            and (deleted or connection.status is not ConnectionStatus.DEPRECATED)
        ]


def is_destination(actor: Actor) -> bool:
    """Whether an actor is written to."""
    return actor.kind in DESTINATION_KINDS


def _of(actors: Iterable[Actor], workspace_ids: frozenset[UUID] | None, deleted: bool) -> list[Actor]:
    return [
        actor
        for actor in actors
        if (workspace_ids is None or actor.workspace_id in workspace_ids) and (deleted or not actor.deleted)
    ]


def _alive(actor: Actor | None) -> Actor | None:
    return None if actor is None or actor.deleted else actor


def _found(resource: _T | None, kind: str, identifier: UUID) -> _T:
    if resource is None:
        raise NotFoundError(kind, identifier)
    return resource
