"""Ingestion as Dagster runs it: the real definitions, a registry file, an Airbyte on loopback, storage on Postgres.

Syncs end at once unless a test holds them; every connection is one of its own, so that the tests of a module share a
world and never see each other.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import UUID

import dagster as dg
import sqlalchemy as sa
from pydantic import SecretStr
from starlette.types import ASGIApp, Receive, Scope, Send

from adinsights_orchestration.clock import utc_now
from adinsights_orchestration.dagster_internals.events import SYNC_ID_KEY
from adinsights_orchestration.environments import Environment
from adinsights_orchestration.ingestion import specs
from adinsights_orchestration.ingestion.automation import build_ingestion, deps_maker
from adinsights_orchestration.ingestion.deps import Deps
from adinsights_orchestration.local.airbyte.app import create_airbyte_app
from adinsights_orchestration.local.airbyte.config_schema import Discover
from adinsights_orchestration.local.airbyte.model import AirbyteConnection, FailureReason, Job
from adinsights_orchestration.local.airbyte.simulated import SimulatedAttempt, SimulatedExecutor, steady
from adinsights_orchestration.local.airbyte.world import AirbyteWorld
from adinsights_orchestration.local.knobs import Knobs
from adinsights_orchestration.local.serving import running
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import audit_entry, sync_job
from adinsights_orchestration.settings import (
    OpsStoreSettings,
    RegistrySettings,
    RegistrySource,
    Settings,
)
from adinsights_orchestration.tenants.automation import apply_partitions
from adinsights_orchestration.tenants.model import Connection, Provider
from adinsights_orchestration.tenants.partitions import PARTITIONS
from adinsights_orchestration.tenants.refresh import refresh
from adinsights_orchestration.tenants.store import load_registry
from tests.conftest import PostgresServer, dagster_instance_on
from tests.ingestion.support import airbyte_settings, note_observed
from tests.local.airbyte_support import add_connection, add_workspace
from tests.quiet import Windows

TENANT_ID = "11111111-1111-4111-8111-111111111111"
AT_ONCE, FOR_EVER = timedelta(0), timedelta(days=1)


class RequestLog:
    """An application that writes down what it is asked."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.paths: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.paths.append(f"{scope['method']} {scope['path']}")
        await self._app(scope, receive, send)


@dataclass
class DagsterWorld:
    """Everything that a module's tests share."""

    airbyte: AirbyteWorld
    knobs: Knobs
    log: RequestLog
    settings: Settings
    store: OpsStore
    instance: dg.DagsterInstance
    workspace_id: UUID
    fates: dict[UUID, FailureReason] = field(default_factory=dict)
    held: set[UUID] = field(default_factory=set)
    rows: list[dict[str, Any]] = field(default_factory=list)
    windows: Windows = field(default_factory=Windows)
    open_windows: dict[UUID, int] = field(default_factory=dict)  # when the connection's newest job started

    @cached_property
    def definitions(self) -> dg.Definitions:
        """What this environment has of ingestion."""
        return build_ingestion(self.settings, self.store, quietly=self.windows)

    # -------------------------------------------------------------------------------------------- Airbyte and registry

    def attempt(self, job: Job, number: int) -> SimulatedAttempt:
        """How a sync goes: at once and well, unless a test said otherwise."""
        self.open_windows[job.connection_id] = self.windows.open_now
        if job.connection_id in self.held:
            return SimulatedAttempt(FOR_EVER)
        failure = self.fates.get(job.connection_id)
        return SimulatedAttempt(AT_ONCE, failure=failure) if failure else steady(AT_ONCE, records=21)(job, number)

    def add(
        self, name: str, provider: Provider = Provider.META, *, schedule: Any = "manual", active: bool = True
    ) -> Connection:
        """Adds a connection to Airbyte and to the registry, which Dagster then has as a partition."""
        made = add_connection(self.airbyte, self.workspace_id, name)
        self.rows.append(
            {
                "provider": provider.value,
                "name": name,
                "connection_id": str(made.id),
                "workspace_id": str(self.workspace_id),
                "schedule": schedule,
                "active": active,
            }
        )
        self.read_registry()
        return self.connection(made.id)

    def read_registry(self) -> None:
        """What the registry's sensor does."""
        assert self.settings.registry.yaml_path is not None
        tenant = {"id": TENANT_ID, "name": "Acme Jamaica Ltd", "connections": self.rows}
        self.settings.registry.yaml_path.write_text(json.dumps({"tenants": [tenant]}))  # JSON is YAML
        report = refresh(self.settings, self.store, utc_now())
        assert report.error is None
        apply_partitions(self.instance, report.registry)

    def pause(self, connection: Connection) -> None:
        """Switches a connection off in the registry."""
        for row in self.rows:
            row["active"] = row["active"] and row["connection_id"] != str(connection.connection_id)
        self.read_registry()

    def retire(self, connection: Connection) -> None:
        """Takes a connection out of the registry."""
        self.rows = [row for row in self.rows if row["connection_id"] != str(connection.connection_id)]
        self.read_registry()

    @property
    def deps(self) -> Deps:
        """What a run works with just now."""
        return deps_maker(self.settings, self.store)()

    def connection(self, connection_id: UUID) -> Connection:
        """The registry's connection."""
        return next(one for one in load_registry(self.store).connections if one.connection_id == connection_id)

    def in_airbyte(self, connection: Connection) -> AirbyteConnection:
        """The connection as the server has it."""
        return self.airbyte.resources.connection(connection.connection_id)

    def jobs(self, connection: Connection) -> list[Job]:
        """The server's jobs of a connection, oldest first."""
        self.airbyte.settle()
        return [job for job in self.airbyte.jobs if job.connection_id == connection.connection_id]

    def let_end(self, connection: Connection) -> None:
        """Lets a held sync end well."""
        self.held.discard(connection.connection_id)
        job = self.jobs(connection)[-1]
        self.airbyte.end_attempt(job.id, utc_now(), steady(AT_ONCE, records=21)(job, 0).streams, None)

    # ---------------------------------------------------------------------------------------------------------- Dagster

    def materialize(self, *connections: Connection, requested_by: str = "") -> dg.ExecuteInProcessResult:
        """What the UI's button does with partitions of one asset: one run over their range."""
        keys = [one.partition_key for one in connections]
        provider = connections[0].provider
        tags = {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]}
        config = {"ops": {f"sync_{provider.value}": {"config": {"requested_by": requested_by}}}}
        return dg.materialize(
            list(self.definitions.assets or ()),  # type: ignore[arg-type]
            selection=[specs.asset_key(provider)],
            partition_key=keys[0] if len(keys) == 1 else None,
            tags=tags if len(keys) > 1 else None,
            run_config=config if requested_by else None,
            instance=self.instance,
            raise_on_error=False,
        )

    def run(self, job: str, op: str, **config: Any) -> dg.ExecuteInProcessResult:
        """Runs a job of ops."""
        return self.definitions.resolve_job_def(job).execute_in_process(
            run_config={"ops": {op: {"config": config}}}, instance=self.instance, raise_on_error=False
        )

    def sync(self, keys: Sequence[str], requested_by: str = "") -> dg.ExecuteInProcessResult:
        """Runs the job `sync_connections`."""
        return self.run("sync_connections", "sync", partitions=list(keys), requested_by=requested_by)

    def hurried(self, tick_budget_seconds: float) -> DagsterWorld:
        """The same world with ticks that take no longer: a server that is down costs one all its time."""
        ingestion = self.settings.ingestion.model_copy(update={"tick_budget_seconds": tick_budget_seconds})
        return replace(self, settings=self.settings.model_copy(update={"ingestion": ingestion}))

    def tick(self, sensor: str) -> str:
        """One evaluation of a sensor, and what it says of itself."""
        with dg.build_sensor_context(instance=self.instance) as context:
            data = self.definitions.resolve_sensor_def(sensor).evaluate_tick(context)
        assert not data.run_requests
        return str(data.skip_message)

    def status(self, connection: Connection) -> str | None:
        """The colour of the partition in the UI."""
        key = specs.asset_key(connection.provider)
        found = self.instance.get_status_by_partition(key, [connection.partition_key], PARTITIONS[connection.provider])
        status = (found or {}).get(connection.partition_key)
        return status.value if status else None

    def materialized_jobs(self, connection: Connection) -> list[int]:
        """The Airbyte jobs that Dagster has materializations of, oldest first."""
        wanted = dg.AssetRecordsFilter(
            asset_key=specs.asset_key(connection.provider), asset_partitions=[connection.partition_key]
        )
        found = self.instance.fetch_materializations(wanted, limit=100, ascending=True).records
        return [_job_id(record.asset_materialization) for record in found]

    def checks(self, connection: Connection) -> list[tuple[bool, str]]:
        """Results of the partition's `sync` check with what they say, oldest first."""
        key = dg.AssetCheckKey(specs.asset_key(connection.provider), specs.SYNC_CHECK)
        found = []
        for record in self.instance.event_log_storage.get_asset_check_execution_history(key, limit=500):
            if record.partition == connection.partition_key and record.event is not None:
                evaluation = record.event.get_dagster_event().asset_check_evaluation_data
                found.append((evaluation.passed, evaluation.description or ""))
        return found[::-1]

    # -------------------------------------------------------------------------------------------------------- ops store

    def ledger(self, connection: Connection) -> list[sa.Row[Any]]:
        """The ledger's jobs of a connection, by id."""
        query = sa.select(sync_job).where(sync_job.c.connection_id == connection.connection_id)
        with self.store.begin() as transaction:
            return list(transaction.execute(query.order_by(sync_job.c.job_id)))

    def audited(self, connection: Connection) -> list[tuple[str, str, str]]:
        """Action, actor and run of a connection's audit rows, oldest first."""
        query = sa.select(audit_entry).where(audit_entry.c.resource_id == str(connection.row_id))
        with self.store.begin() as transaction:
            rows = list(transaction.execute(query.order_by(audit_entry.c.created_at)))
        return [(row.action, row.detail["actor"], row.detail["run_id"]) for row in rows]


def _job_id(materialization: dg.AssetMaterialization | None) -> int:
    assert materialization is not None
    return int(str(materialization.metadata[SYNC_ID_KEY].value))


@contextmanager
def a_dagster_world(
    server: PostgresServer,
    folder: Path,
    environment: Environment = Environment.PRODUCTION,
    discover: Discover | None = None,
    **settings: Any,
) -> Iterator[DagsterWorld]:
    """Runs an Airbyte and a Dagster instance with the definitions of an environment."""
    airbyte, knobs = _airbyte()
    log = RequestLog(create_airbyte_app(airbyte, airbyte.knobs.knobs, clock=utc_now, discover=discover))
    ops_store = OpsStoreSettings(dsn=SecretStr(server.create_database("ops")))
    store = OpsStore(ops_store)
    store.migrate()
    note_observed(store, utc_now())
    with running(log) as url, dagster_instance_on(server) as instance:
        configured = Settings(
            environment=environment,
            ops_store=ops_store,
            airbyte=airbyte_settings(url),
            registry=RegistrySettings(source=RegistrySource.YAML, yaml_path=folder / "registry.yaml"),
            **settings,
        )
        world = DagsterWorld(airbyte, knobs, log, configured, store, instance, add_workspace(airbyte))
        SimulatedExecutor(airbyte, world.attempt, retry_delay=AT_ONCE)
        yield world
    store.dispose()


def _airbyte() -> tuple[AirbyteWorld, Knobs]:
    knobs = Knobs()
    return AirbyteWorld(knobs, clock=utc_now), knobs


def unknown_key() -> str:
    """A partition key that no connection has."""
    return f"acme-jamaica/nobody-{uuid.uuid4().hex[:8]}"
