"""A small world for the doctor: real databases, and the local service over real HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from adinsights_orchestration.doctor.catalog import CHECKS
from adinsights_orchestration.doctor.model import Result
from adinsights_orchestration.doctor.runner import examine
from adinsights_orchestration.doctor.world import World
from adinsights_orchestration.local import seed
from adinsights_orchestration.local.backend import prepare_backend
from adinsights_orchestration.local.service import ServiceAddresses, create_service
from adinsights_orchestration.local.serving import running
from adinsights_orchestration.local.settings import LocalSettings
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings
from adinsights_orchestration.tenants.refresh import refresh
from tests.conftest import PostgresServer

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
DEADLINE_SECONDS = 60.0  # the machine may be busy; that a hanging server is survived has a test of its own


@dataclass
class Surroundings:
    """Where everything of one test is."""

    settings: Settings
    service: str
    backend_dsn: str
    warehouse_dsn: str
    store: OpsStore

    def with_group(self, group: str, **values: Any) -> Surroundings:
        """The same world, seen with other settings in one group."""
        changed = getattr(self.settings, group).model_copy(update=values)
        settings = self.settings.model_copy(update={group: changed})
        return Surroundings(settings, self.service, self.backend_dsn, self.warehouse_dsn, self.store)

    def results(self, *names: str, environment: dict[str, str] | None = None) -> dict[str, Result]:
        """Runs the named checks."""
        world = World(self.settings, environment or {}, NOW)
        checks = [check for check in CHECKS if check.name in names]
        assert len(checks) == len(names)
        return {result.name: result for result in examine(world, checks, deadline_seconds=DEADLINE_SECONDS)}

    def result(self, name: str, environment: dict[str, str] | None = None) -> Result:
        """Runs one check."""
        return self.results(name, environment=environment)[name]


@pytest.fixture(scope="module")
def service(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surroundings]:
    """The local service on databases of its own, and a registry that has been read."""
    folder = tmp_path_factory.mktemp("doctor")
    backend, warehouse, ops = (postgres_server.create_database(name) for name in ("backend", "warehouse", "ops"))
    local = LocalSettings(state_dir=folder, postgres_port=postgres_server.port)
    prepare_backend(local, backend)
    with running(create_service(local, ServiceAddresses(backend, warehouse))) as url:
        settings = _settings(postgres_server, url, folder, backend, warehouse, ops)
        store = OpsStore(settings.ops_store)
        store.migrate()
        assert refresh(settings, store, NOW).error is None
        yield Surroundings(settings, url, backend, warehouse, store)
        store.dispose()


@pytest.fixture
def around(service: Surroundings) -> Iterator[Surroundings]:
    """The shared world; what a test changes in its ledger is undone."""
    yield service
    with service.store.begin() as connection:
        connection.exec_driver_sql("truncate adinsights_ops.sync_job cascade")


@pytest.fixture
def backend_sql(service: Surroundings) -> Callable[..., None]:
    """Runs a statement in the backend's database."""

    def run(statement: str, *parameters: object) -> None:
        with psycopg.connect(service.backend_dsn) as connection:
            connection.execute(statement, parameters)

    return run


def _settings(server: PostgresServer, url: str, folder: Path, backend: str, warehouse: str, ops: str) -> Settings:
    default = Settings()
    return default.model_copy(
        update={
            "ops_store": default.ops_store.model_copy(update={"dsn": SecretStr(ops)}),
            "backend": default.backend.model_copy(update={"dsn": SecretStr(backend), "url": f"{url}/backend"}),
            "airbyte": default.airbyte.model_copy(
                update={
                    "public_api_url": f"{url}/airbyte/api/public/v1",
                    "config_api_url": f"{url}/airbyte/api/v1",
                    "client_id": seed.AIRBYTE_CLIENT_ID,
                    "client_secret": SecretStr(seed.AIRBYTE_CLIENT_SECRET),
                }
            ),
            "warehouse": default.warehouse.model_copy(
                update={
                    "port": server.port,
                    "dbname": warehouse.rsplit("/", 1)[1],
                    "password": SecretStr(server.password),
                }
            ),
            "dbt": default.dbt.model_copy(update={"run_results_path": folder / "run_results.json"}),
        }
    )
