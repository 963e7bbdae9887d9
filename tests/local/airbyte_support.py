"""A small Airbyte for tests: a world with connections, simulated syncs, a clock that only tests move, real HTTP."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx

from adinsights_orchestration.local.airbyte.app import Background, create_airbyte_app
from adinsights_orchestration.local.airbyte.auth import Gate
from adinsights_orchestration.local.airbyte.config_schema import Discover
from adinsights_orchestration.local.airbyte.model import (
    Actor,
    AirbyteConnection,
    AirbyteSchedule,
    Catalog,
    CatalogStream,
    FailureReason,
    FailureType,
    Job,
    StreamStats,
    Workspace,
)
from adinsights_orchestration.local.airbyte.simulated import Script, SimulatedAttempt, SimulatedExecutor, steady
from adinsights_orchestration.local.airbyte.world import AirbyteWorld
from adinsights_orchestration.local.knobs import Knobs
from adinsights_orchestration.local.serving import running

START = datetime(2026, 3, 2, 14, 0, 7, tzinfo=UTC)
SYNC_TIME = timedelta(seconds=30)
TRANSIENT = FailureReason("source", FailureType.TRANSIENT_ERROR, "The platform is busy.", "HTTP 500 three times")
MISCONFIGURED = FailureReason("source", FailureType.CONFIG_ERROR, "The access token was revoked.")


@dataclass
class ManualClock:
    """A clock that stands still between two calls of `advance`."""

    now: datetime = START

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


STREAMS = (
    CatalogStream(
        "ad_insights",
        {
            "type": "object",
            "properties": {
                "account_id": {"type": "string"},
                "date_start": {"type": "string", "format": "date"},
                "spend": {"type": "number"},
            },
        },
        primary_key=(("account_id",), ("date_start",)),
        cursor_field=("date_start",),
    ),
    CatalogStream("campaigns", {"type": "object", "properties": {"id": {"type": "string"}}}, primary_key=(("id",),)),
)


def add_workspace(world: AirbyteWorld, name: str = "Agency") -> UUID:
    """Adds a workspace and returns its id."""
    workspace = Workspace(uuid.uuid4(), name)
    world.resources.put(workspace)
    return workspace.id


def add_connection(
    world: AirbyteWorld, workspace_id: UUID, name: str = "Meta Ads", schedule: AirbyteSchedule | None = None
) -> AirbyteConnection:
    """Adds a source, a destination and a connection between them."""
    now = world.clock()
    secrets = {"access_token": "EAAG-a-realistic-token", "account_ids": ["1"], "tenant_id": str(uuid.uuid4())}
    source = Actor(uuid.uuid4(), workspace_id, f"{name} source", "facebook-marketing", uuid.uuid4(), secrets, now)
    settings = {"host": "db.example", "credentials": {"password": "hidden-password"}}
    destination = Actor(uuid.uuid4(), workspace_id, "Warehouse", "postgres", uuid.uuid4(), settings, now)
    connection = AirbyteConnection(
        id=uuid.uuid4(),
        workspace_id=workspace_id,
        source_id=source.id,
        destination_id=destination.id,
        name=name,
        catalog=Catalog(uuid.uuid4(), STREAMS),
        created_at=now,
        schedule=schedule or AirbyteSchedule(),
    )
    world.resources.put(source, destination, connection)
    return connection


def failing(*failures: FailureReason | None, duration: timedelta = SYNC_TIME) -> Script:
    """Attempt n of every job fails with the n-th reason; None, and every later attempt, succeeds."""
    succeed = steady(duration, records=10)

    def script(job: Job, number: int) -> SimulatedAttempt:
        failure = failures[number] if number < len(failures) else None
        if failure is None:
            return succeed(job, number)
        return SimulatedAttempt(duration, (StreamStats("campaigns", None, 3, 300, 3, 300),), failure)

    return script


@dataclass
class AirbyteServer:
    """A running server and everything behind it."""

    url: str
    world: AirbyteWorld
    knobs: Knobs
    clock: ManualClock
    workspace_id: UUID
    connection: AirbyteConnection
    client: httpx.Client = field(repr=False)

    def public(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request to the public API."""
        return self.client.request(method, f"{self.url}/api/public/v1{path}", **options)

    def config(self, path: str, body: dict[str, Any]) -> httpx.Response:
        """One call of the configuration API."""
        return self.client.post(f"{self.url}/api/v1{path}", json=body)

    def start(self, connection: AirbyteConnection | None = None, kind: str = "sync") -> httpx.Response:
        """POST /jobs."""
        body = {"connectionId": str((connection or self.connection).id), "jobType": kind}
        return self.public("POST", "/jobs", json=body)

    def set(self, name: str, value: Any) -> None:
        """Turns a knob."""
        self.knobs.set("airbyte", name, value)

    def add_connection(self, name: str = "Another") -> AirbyteConnection:
        """Adds a connection in the same workspace."""
        return add_connection(self.world, self.workspace_id, name)


@contextmanager
def airbyte_server(
    script: Script | None = None,
    *,
    slots: int = 100,
    gate: Gate | None = None,
    background: tuple[Background, ...] = (),
    discover: Discover | None = None,
) -> Iterator[AirbyteServer]:
    """Runs a server with one connection."""
    clock, knobs = ManualClock(), Knobs()
    world = AirbyteWorld(knobs, clock=clock)
    workspace_id = add_workspace(world)
    connection = add_connection(world, workspace_id)
    SimulatedExecutor(world, script or steady(SYNC_TIME), slots=slots)
    app = create_airbyte_app(world, knobs, clock=clock, gate=gate, background=background, discover=discover)
    with running(app) as url, httpx.Client(timeout=20, verify=False) as client:
        yield AirbyteServer(url, world, knobs, clock, workspace_id, connection, client)
