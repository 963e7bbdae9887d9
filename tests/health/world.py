"""A platform for tests of health: the local service's parts over real HTTP, a real ops store, a clock of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import dagster as dg
import httpx
import sqlalchemy as sa
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route

from adinsights_orchestration.environments import Environment
from adinsights_orchestration.freshness.sla import SlaTable, load_sla
from adinsights_orchestration.health import recorded, tick
from adinsights_orchestration.health.asking import Asking
from adinsights_orchestration.health.catalog import CATALOG
from adinsights_orchestration.health.model import Component, ComponentState, Health, Reading
from adinsights_orchestration.health.showing import show
from adinsights_orchestration.health.states import load
from adinsights_orchestration.health.tick import Round
from adinsights_orchestration.health.web import Web
from adinsights_orchestration.local import seed
from adinsights_orchestration.local.backend import prepare_backend
from adinsights_orchestration.local.backend.app import BackendConfig, create_backend_app
from adinsights_orchestration.local.front import create_frontend_app, create_superset_app
from adinsights_orchestration.local.knobs import Knobs
from adinsights_orchestration.local.serving import running
from adinsights_orchestration.local.settings import LocalSettings
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.ops_store.tables import dbt_invocation, dbt_model_result, sync_job
from adinsights_orchestration.settings import HealthSettings, Settings
from adinsights_orchestration.tenants import store as registry_store
from adinsights_orchestration.tenants.model import Connection, Registry, Tenant
from tests.conftest import PostgresServer
from tests.local.airbyte_support import START, ManualClock

API_KEY = "the-service-key-0b7d"
WEBHOOK_SECRET = "the-webhook-secret-9f21"
TENANTS = tuple(
    Tenant(seed.tenant_id(tenant), tenant.slug, tenant.slug)
    for tenant in {connection.tenant.slug: connection.tenant for connection in seed.connections()}.values()
)
QUICK_SECONDS = 1.5  # a probe's deadline in tests of what hangs


@dataclass
class Platform:
    """Everything that probes may ask, and what they ask with."""

    settings: Settings
    store: OpsStore
    instance: dg.DagsterInstance
    knobs: Knobs
    clock: ManualClock
    url: str
    run_results: Path
    backend_dsn: str
    sla: SlaTable = field(default_factory=lambda: load_sla(Environment.PRODUCTION))

    def change(self, **health: Any) -> None:
        """Changes settings of health."""
        self.settings = self.settings.model_copy(update={"health": self.settings.health.model_copy(update=health)})

    def move(self, group: str, **values: Any) -> None:
        """Changes settings of another group."""
        changed = getattr(self.settings, group).model_copy(update=values)
        self.settings = self.settings.model_copy(update={group: changed})

    def probe(self, component: Component, memory: dict[str, Any] | None = None) -> Reading:
        """Asks one component and keeps nothing."""
        known = recorded.read(self.store, self.clock(), timedelta(minutes=5))
        web = Web(self.settings.health.probe_timeout_seconds)
        kept = dict(known.memory) if memory is None else memory
        ask = Asking(self.settings, self.sla, web, self.store, known, self.clock, self.instance, kept)
        (reading,) = asyncio.run(tick.ask_all(ask, {component: CATALOG[component]}))
        return reading

    def round(self, after: timedelta = timedelta()) -> Round:
        """Lets time pass, asks every component and shows what changed."""
        self.clock.now += after
        done = tick.run(self.settings, self.store, self.sla, self.instance, self.clock)
        if done.states:
            show(self.instance, self.store, done.states, self.clock())
        return done

    def states(self) -> dict[Component, ComponentState]:
        """What is kept."""
        with self.store.begin() as connection:
            return load(connection)

    def knob(self, area: str, name: str, value: Any = True) -> None:
        """Turns a knob of the local service."""
        self.knobs.set(area, name, value)

    def serve(self, *tenants: Tenant) -> None:
        """Makes these the registry's tenants, each with its connections of the demo."""
        connections = tuple(_connection(one) for one in seed.connections())
        ids = {tenant.id for tenant in tenants}
        registry = Registry(tenants, tuple(one for one in connections if one.tenant_id in ids), "test", self.clock())
        with self.store.begin() as transaction:
            last = registry_store.last_snapshot(self.store, transaction)
            snapshot = registry_store.write_snapshot(transaction, str(uuid4()), registry, last)
            registry_store.write_success(transaction, snapshot, self.clock())

    def build(
        self,
        ended: datetime | None = None,
        *,
        failing: tuple[str, ...] = (),
        completed: bool = True,
        seconds: float = 60,
        readable: bool = True,
    ) -> None:
        """Writes a dbt build that ended, by default now, into the ops store."""
        ended = ended or self.clock()
        row = {
            "invocation_id": str(uuid4()),
            "run_id": str(uuid4()),
            "command": "dbt build",
            "full_refresh": False,
            "completed": completed,
            "succeeded": completed and not failing,
            "generated_at": ended,
            "started_at": ended - timedelta(seconds=seconds),
            "elapsed_seconds": seconds,
            "models": 2,
            "artifact": {"generated_at": ended.isoformat()} if readable else None,
        }
        with self.store.begin() as transaction:
            transaction.execute(sa.insert(dbt_invocation).values(row))
            transaction.execute(sa.delete(dbt_model_result))
            for name in ("model.adinsights.stg_meta", "model.adinsights.fct_ad_performance"):
                model = {"unique_id": name, "invocation_id": row["invocation_id"], "message": None, "result": {}}
                model |= {"status": "error" if name.split(".")[-1] in failing else "success"}
                model |= {"execution_seconds": 1.0, "generated_at": ended}
                transaction.execute(sa.insert(dbt_model_result).values(model))

    def post_job(self, job_id: int, connection: int = 0) -> None:
        """Posts a finished job to the backend's webhook, as Airbyte does."""
        ended = int(self.clock().timestamp())
        job = {"id": job_id, "status": "succeeded", "createdAt": ended - 60, "updatedAt": ended}
        body = {"connectionId": str(seed.connections()[connection].connection_id), "job": job}
        headers = {"X-Airbyte-Webhook-Secret": WEBHOOK_SECRET}
        reply = httpx.post(f"{self.url}/backend/api/airbyte/webhook/", json=body, headers=headers)
        assert reply.status_code == 200

    def finish(self, job_id: int, ended: datetime | None = None, connection: int = 0) -> UUID:
        """Writes a job that is over into the ledger, and returns its connection's id."""
        ended, of = ended or self.clock(), seed.connections()[connection]
        row = {
            "job_id": job_id,
            "connection_id": of.connection_id,
            "partition_key": of.key,
            "provider": of.provider.value,
            "tenant_id": seed.tenant_id(of.tenant),
            "job_type": "sync",
            "status": "succeeded",
            "started_by": "external",
            "started_at": ended - timedelta(minutes=1),
            "ended_at": ended,
            "first_observed_at": ended,
            "observed_at": ended,
            "report_state": "pending",
        }
        with self.store.begin() as transaction:
            transaction.execute(sa.insert(sync_job).values(row))
        return of.connection_id


def seen(reading: Reading) -> tuple[Health, str]:
    """What a reading says, in two words."""
    return reading.health, reading.state


@contextmanager
def platform(
    postgres: PostgresServer, store: OpsStore, instance: dg.DagsterInstance, folder: Path
) -> Iterator[Platform]:
    """Runs the platform while the block does."""
    backend, warehouse = postgres.create_database("backend"), postgres.create_database("warehouse")
    prepare_backend(LocalSettings(), backend, START)
    knobs, clock, results = Knobs(), ManualClock(), folder / "run_results.json"
    config = BackendConfig(backend, warehouse, results, WEBHOOK_SECRET, API_KEY, "the-alerts-key")
    app = Starlette(
        routes=[
            Mount("/backend", create_backend_app(config, knobs, clock=clock)),
            Mount("/frontend", create_frontend_app(knobs)),
            Mount("/superset", create_superset_app(knobs)),
            Route("/airbyte/public/health", _airbyte_health),
            Route("/airbyte/config/health", _airbyte_config_health),
        ]
    )
    with running(app) as url:
        settings = _settings(url, backend, warehouse)
        yield Platform(settings, store, instance, knobs, clock, url, results, backend)


def _settings(url: str, backend: str, warehouse: str) -> Settings:
    where = conninfo_to_dict(warehouse)
    base = Settings(environment=Environment.PRODUCTION)
    health = HealthSettings(
        frontend_url=f"{url}/frontend/", superset_url=f"{url}/superset", backend_api_key=SecretStr(API_KEY)
    )
    address: dict[str, Any] = {"host": where["host"], "port": int(where["port"] or 0), "user": where["user"]}
    address |= {"password": SecretStr(str(where["password"])), "dbname": where["dbname"]}
    airbyte = {"public_api_url": f"{url}/airbyte/public", "config_api_url": f"{url}/airbyte/config"}
    return base.model_copy(
        update={
            "backend": base.backend.model_copy(update={"url": f"{url}/backend", "dsn": SecretStr(backend)}),
            "airbyte": base.airbyte.model_copy(update=airbyte),
            "warehouse": base.warehouse.model_copy(update=address),
            "health": health,
        }
    )


async def _airbyte_health(_: Request) -> Response:
    return PlainTextResponse("Successful operation")


async def _airbyte_config_health(_: Request) -> Response:
    return JSONResponse({"available": True})


def _connection(one: seed.SeedConnection) -> Connection:
    return Connection(
        one.row_id,
        seed.tenant_id(one.tenant),
        one.provider,
        one.name,
        one.connection_id,
        one.schedule,
        partition_key=one.key,
    )
