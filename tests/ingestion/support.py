"""An ingestion of its own for a test: a real ops store, real HTTP that plays Airbyte, a clock that tests move."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from pydantic import SecretStr

from adinsights_orchestration.ingestion import ledger, night, observe, trigger
from adinsights_orchestration.ingestion.airbyte_api import AirbyteApi, api_factory
from adinsights_orchestration.ingestion.deps import Deps
from adinsights_orchestration.ingestion.trigger import TriggerReport
from adinsights_orchestration.local.airbyte.auth import Gate
from adinsights_orchestration.local.airbyte.model import AirbyteConnection, Job
from adinsights_orchestration.local.airbyte.simulated import Script
from adinsights_orchestration.ops_store.findings import open_findings
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import sync_intent, sync_job
from adinsights_orchestration.settings import AirbyteSettings, Driver, IngestionSettings, Settings
from adinsights_orchestration.tenants.model import (
    Connection,
    Provider,
    Registry,
    Schedule,
    ScheduleType,
    Tenant,
)
from tests.local.airbyte_support import AirbyteServer, add_connection, airbyte_server

HOURLY = Schedule(ScheduleType.CRON, cron="0 * * * *")
BY_HAND = Schedule(ScheduleType.MANUAL)
TENANT = Tenant(id=UUID("11111111-1111-4111-8111-111111111111"), name="Acme Jamaica Ltd", slug="acme-jamaica")


def airbyte_settings(url: str, **overrides: Any) -> AirbyteSettings:
    """Settings for the server at `url`; requests give up after two seconds."""
    values: dict[str, Any] = {
        "public_api_url": f"{url}/api/public/v1",
        "config_api_url": f"{url}/api/v1",
        "request_timeout_seconds": 2.0,
    }
    return AirbyteSettings(**{**values, **overrides})


def registered(connection: AirbyteConnection, number: int, schedule: Schedule = HOURLY, **overrides: Any) -> Connection:
    """The registry's row for one of the server's connections."""
    values: dict[str, Any] = {
        "row_id": uuid.uuid5(connection.id, "row"),
        "tenant_id": TENANT.id,
        "provider": list(Provider)[number % len(Provider)],
        "name": connection.name,
        "connection_id": connection.id,
        "schedule": schedule,
        "workspace_id": connection.workspace_id,
        "partition_key": f"acme-jamaica/{number:04d}-{str(connection.id)[:8]}",
    }
    return Connection(**{**values, **overrides})


def registry_of(connections: Sequence[Connection], read_at: datetime) -> Registry:
    """A registry of one tenant."""
    return Registry((TENANT,), tuple(connections), source="test", read_at=read_at)


@dataclass
class Ingestion:
    """Everything one test drives."""

    server: AirbyteServer
    store: OpsStore
    settings: Settings
    connections: list[Connection]
    bound: int = 100
    seed: int = 7
    retired: list[Connection] = field(default_factory=list)

    @property
    def deps(self) -> Deps:
        """The engines' dependencies as of now."""
        return Deps(
            settings=self.settings,
            store=self.store,
            api=api_factory(self.settings.airbyte),
            registry=registry_of(self.connections, self.now),
            bound=self.bound,
            rng=lambda: random.Random(self.seed),
        )

    @property
    def now(self) -> datetime:
        """Our clock, which is the server's true one; `clock_skew_seconds` sets theirs apart."""
        return self.server.clock.now

    def advance(self, seconds: float) -> None:
        """Lets time pass."""
        self.server.clock.advance(seconds)

    def trigger(self) -> trigger.TriggerReport:
        """One trigger tick."""
        return asyncio.run(trigger.tick(self.deps, self.now))

    def plan_night(self) -> night.Night:
        """What an environment of nights does at one in the morning, Jamaican time."""
        return night.plan_night(self.deps, "0 1 * * *", self.now)

    def start_planned(self) -> TriggerReport:
        """One tick that plans nothing itself."""
        return asyncio.run(trigger.tick(self.deps, self.now, own_slots=False))

    def observe(self) -> observe.ObserveReport:
        """One observe tick."""
        return asyncio.run(observe.tick(self.deps, self.now))

    def configure(self, *, airbyte: dict[str, Any] | None = None, ingestion: dict[str, Any] | None = None) -> None:
        """Changes settings for the ticks to come."""
        changes: dict[str, Any] = {}
        if airbyte:
            changes["airbyte"] = self.settings.airbyte.model_copy(update=airbyte)
        if ingestion:
            changes["ingestion"] = self.settings.ingestion.model_copy(update=ingestion)
        self.settings = self.settings.model_copy(update=changes)

    def jobs(self, connection: Connection | None = None) -> list[Job]:
        """The server's own jobs, oldest first."""
        self.server.world.settle()
        every = list(self.server.world.jobs)
        return [job for job in every if connection is None or job.connection_id == connection.connection_id]

    def job_of(self, number: int = 0) -> Job:
        """The only job of a connection."""
        (job,) = self.jobs(self.connections[number])
        return job

    def intents(self) -> list[sa.Row[Any]]:
        """Every intent, oldest first."""
        with self.store.begin() as connection:
            return list(connection.execute(sa.select(sync_intent).order_by(sync_intent.c.id)))

    def intent(self) -> sa.Row[Any]:
        """The only intent."""
        (one,) = self.intents()
        return one

    def ledger(self) -> list[sa.Row[Any]]:
        """Every job in the ledger, by id."""
        with self.store.begin() as connection:
            return list(connection.execute(sa.select(sync_job).order_by(sync_job.c.job_id)))

    def findings(self) -> dict[str, list[str]]:
        """Open findings: subjects by kind."""
        found: dict[str, list[str]] = {}
        with self.store.begin() as connection:
            for one in open_findings(connection):
                found.setdefault(one.kind, []).append(one.subject)
        return found

    def add(self, number: int, schedule: Schedule = HOURLY, **overrides: Any) -> Connection:
        """Adds a connection to the server and to the registry."""
        made = add_connection(self.server.world, self.server.workspace_id, f"Connection {number}")
        self.connections.append(registered(made, number, schedule, **overrides))
        return self.connections[-1]

    def replace(self, number: int, **changes: Any) -> None:
        """Changes a connection in the registry."""
        self.connections[number] = replace(self.connections[number], **changes)


@contextmanager
def an_ingestion(
    store: OpsStore,
    connections: int = 1,
    *,
    script: Script | None = None,
    slots: int = 100,
    gate: Gate | None = None,
    schedule: Schedule = HOURLY,
    observed: bool = True,
    **airbyte: Any,
) -> Iterator[Ingestion]:
    """Runs a server whose syncs take 30 s of the test's clock, with so many hourly connections.

    `observed` is whether Airbyte was observed until now, as in every deployment that is not new.
    """
    with airbyte_server(script, slots=slots, gate=gate) as server:
        settings = Settings(airbyte=airbyte_settings(server.url, **airbyte), ingestion=IngestionSettings())
        one = Ingestion(server, store, settings, [registered(server.connection, 0, schedule)])
        for number in range(1, connections):
            one.add(number, schedule)
        if observed:
            note_observed(store, one.now)
        yield one


def note_observed(store: OpsStore, now: datetime) -> None:
    """Notes that everything which Airbyte did until now was read."""
    with store.begin() as connection:
        ledger.save_position(connection, ledger.Position(now), now)


def external(ingestion: Ingestion) -> None:
    """Makes somebody else the driver."""
    ingestion.configure(ingestion={"driver": Driver.EXTERNAL})


def start_elsewhere(ingestion: Ingestion, number: int = 0) -> int:
    """Somebody else starts a sync; returns its job id."""
    made = ingestion.server.world.resources.connection(ingestion.connections[number].connection_id)
    reply = ingestion.server.start(made)
    return int(reply.json()["jobId"])


def with_client(settings: AirbyteSettings) -> AirbyteApi:
    """A client of its own."""
    return api_factory(settings)()


def secret(text: str) -> SecretStr:
    """A secret setting."""
    return SecretStr(text)


def utc(text: str) -> datetime:
    """A moment in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
