"""What an Airbyte server knows: workspaces, actors, connections, jobs, attempts.

Belongs here: the values and the few facts that follow from one of them. Does not belong here: how they change
(`world`), how they look from outside (`public_views`, `config_views`). Names are Airbyte's own; where its two APIs
spell one thing in two ways, the configuration API's spelling is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from adinsights_orchestration.errors import AdinsightsError


class JobStatus(StrEnum):
    """States of a job. `incomplete` lies between a failed attempt and the next one."""

    PENDING = "pending"
    RUNNING = "running"
    INCOMPLETE = "incomplete"
    FAILED = "failed"
    SUCCEEDED = "succeeded"
    CANCELLED = "cancelled"


TERMINAL = frozenset({JobStatus.FAILED, JobStatus.SUCCEEDED, JobStatus.CANCELLED})


class ConfigType(StrEnum):
    """Kinds of jobs; the public API calls `reset_connection` `reset`."""

    SYNC = "sync"
    RESET_CONNECTION = "reset_connection"
    REFRESH = "refresh"
    CLEAR = "clear"


class ConnectionStatus(StrEnum):
    """Whether a connection may run; `deprecated` means deleted, `locked` belongs to someone else's process."""

    ACTIVE = "active"
    INACTIVE = "inactive"
    DEPRECATED = "deprecated"
    LOCKED = "locked"


class FailureType(StrEnum):
    """Kinds of failures; what is worth another attempt follows from them."""

    CONFIG_ERROR = "config_error"
    SYSTEM_ERROR = "system_error"
    MANUAL_CANCELLATION = "manual_cancellation"
    REFRESH_SCHEMA = "refresh_schema"
    HEARTBEAT_TIMEOUT = "heartbeat_timeout"
    DESTINATION_TIMEOUT = "destination_timeout"
    TRANSIENT_ERROR = "transient_error"


# A wrong credential stays wrong; everything else may pass.
NEVER_RETRIED = frozenset({FailureType.CONFIG_ERROR, FailureType.MANUAL_CANCELLATION})


@dataclass(frozen=True, slots=True)
class StreamName:
    """A stream, as Airbyte names one."""

    name: str
    namespace: str | None = None


@dataclass(frozen=True, slots=True)
class CatalogStream:
    """One stream of a connection: what the source offers and what the connection does with it."""

    name: str
    json_schema: Mapping[str, Any]
    primary_key: tuple[tuple[str, ...], ...] = ()
    cursor_field: tuple[str, ...] = ()
    namespace: str | None = None
    selected: bool = True

    @property
    def incremental(self) -> bool:
        """Whether a sync reads only what is new."""
        return bool(self.cursor_field)

    @property
    def descriptor(self) -> StreamName:
        """The stream's name."""
        return StreamName(self.name, self.namespace)


@dataclass(frozen=True, slots=True)
class Catalog:
    """A set of streams under an id of its own: what one discovery found, or what a connection was set up from."""

    id: UUID
    streams: tuple[CatalogStream, ...]
    simulated: bool = False  # made by the knob `schema_break`: the platform never had these fields


@dataclass(frozen=True, slots=True)
class Workspace:
    """A workspace."""

    id: UUID
    name: str


@dataclass(frozen=True, slots=True)
class Actor:
    """A source or a destination. `kind` is the connector's short name (`facebook-marketing`, `postgres`)."""

    id: UUID
    workspace_id: UUID
    name: str
    kind: str
    definition_id: UUID
    configuration: Mapping[str, Any]
    created_at: datetime
    deleted: bool = False
    discovered: Catalog | None = None  # a source's newest discovery, where it differs from what connections use


@dataclass(frozen=True, slots=True)
class AirbyteSchedule:
    """When Airbyte's own scheduler starts a connection; `kind` is manual, basic (every `units` `time_unit`) or cron."""

    kind: str = "manual"
    units: int = 0
    time_unit: str = "hours"
    cron_expression: str = ""
    cron_timezone: str = "UTC"


@dataclass(frozen=True, slots=True)
class PendingRefresh:
    """A refresh that was asked for and that the connection's next job carries out."""

    mode: str  # Merge | Truncate
    streams: tuple[StreamName, ...]


@dataclass(frozen=True, slots=True)
class AirbyteConnection:
    """A source, a destination, a catalog and a schedule. `generation` counts refreshes and clears."""

    id: UUID
    workspace_id: UUID
    source_id: UUID
    destination_id: UUID
    name: str
    catalog: Catalog
    created_at: datetime
    status: ConnectionStatus = ConnectionStatus.ACTIVE
    status_reason: str | None = None
    schedule: AirbyteSchedule = AirbyteSchedule()
    breaking_change: bool = False
    non_breaking_preference: str = "ignore"
    namespace_definition: str = "destination"
    namespace_format: str | None = None
    prefix: str = ""
    generation: int = 0
    pending_refresh: PendingRefresh | None = None

    @property
    def streams(self) -> tuple[StreamName, ...]:
        """The streams that a sync of this connection moves."""
        return tuple(stream.descriptor for stream in self.catalog.streams if stream.selected)


@dataclass(frozen=True, slots=True)
class StreamStats:
    """What one attempt moved of one stream."""

    name: str
    namespace: str | None = None
    records_emitted: int = 0
    bytes_emitted: int = 0
    records_committed: int = 0
    bytes_committed: int = 0


@dataclass(frozen=True, slots=True)
class FailureReason:
    """Why an attempt failed, in Airbyte's vocabulary; `internal_message` is for engineers."""

    origin: str
    type: FailureType
    external_message: str
    internal_message: str = ""
    stream: StreamName | None = None


@dataclass(slots=True)
class Attempt:
    """One try at a job."""

    number: int
    created_at: datetime
    updated_at: datetime
    status: str = "running"  # running | failed | succeeded
    ended_at: datetime | None = None
    streams: tuple[StreamStats, ...] = ()
    failure: FailureReason | None = None


@dataclass(slots=True)
class Job:
    """One run of a connection. `revision` counts changes of `updated_at`, for the index."""

    id: int
    connection_id: UUID
    workspace_id: UUID
    config_type: ConfigType
    created_at: datetime
    updated_at: datetime
    streams: tuple[StreamName, ...]
    generation: int = 0
    status: JobStatus = JobStatus.PENDING
    refresh_mode: str | None = None
    started_at: datetime | None = None
    attempts: list[Attempt] = field(default_factory=list)
    revision: int = field(default=0, compare=False)

    @property
    def terminal(self) -> bool:
        """Whether nothing more will happen to the job."""
        return self.status in TERMINAL

    @property
    def attempt(self) -> Attempt | None:
        """The newest attempt."""
        return self.attempts[-1] if self.attempts else None


class AirbyteError(AdinsightsError):
    """Something the server refuses; the APIs turn it into their own replies."""


class NotFoundError(AirbyteError):
    """No such resource. `kind` is Airbyte's resource type."""

    def __init__(self, kind: str, identifier: object) -> None:
        self.kind = kind
        self.identifier = str(identifier)
        super().__init__(f"could not find {kind} {identifier}")


class AlreadyRunningError(AirbyteError):
    """The connection has a job that is not finished."""


class NotActiveError(AirbyteError):
    """The connection is not active, so nothing may be started."""


class NotRunningError(AirbyteError):
    """The job is over and cannot be cancelled."""


class LockedError(AirbyteError):
    """The connection is locked and cannot be changed."""
