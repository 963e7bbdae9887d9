"""Fixtures of the transformation's tests: a prepared project, a warehouse, settings and an ops store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import Settings, WarehouseSettings
from adinsights_orchestration.transformation import manifest, process
from adinsights_orchestration.transformation.project import Project
from tests.conftest import PostgresServer
from tests.transformation.support import FIXTURE_PROJECT, Warehouse, copy_project, make_settings
from tests.transformation.warm_dbt import WarmDbt, warm_dbt_server


@pytest.fixture(scope="session")
def warehouse_settings(postgres_server: PostgresServer) -> WarehouseSettings:
    """One warehouse database for all tests: another one would make dbt parse again."""
    dbname = postgres_server.create_database("warehouse").rpartition("/")[2]
    return WarehouseSettings(
        host=postgres_server.host,
        port=postgres_server.port,
        user=postgres_server.user,
        password=SecretStr(postgres_server.password),
        dbname=dbname,
    )


@pytest.fixture(scope="session")
def prepared_project(warehouse_settings: WarehouseSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fixture project with its manifest, parsed once."""
    folder = tmp_path_factory.mktemp("prepared")
    project_dir = copy_project(FIXTURE_PROJECT, folder / "dbt project")
    manifest.prepare(make_settings(project_dir, warehouse_settings, SecretStr("postgresql://unused"), folder))
    return project_dir


@pytest.fixture(scope="session")
def dbt_server() -> Iterator[WarmDbt]:
    """A process that has imported dbt."""
    with warm_dbt_server() as server:
        yield server


@pytest.fixture
def warm_dbt(dbt_server: WarmDbt, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every dbt of this process is forked from one that has imported it."""
    monkeypatch.setattr(process, "subprocess", dbt_server)


@pytest.fixture
def project_dir(prepared_project: Path, tmp_path: Path) -> Path:
    """A prepared project of this test's own, in a folder with a space in its name."""
    return copy_project(prepared_project, tmp_path / "dbt project")


@pytest.fixture
def project(prepared_project: Path) -> Project:
    """The fixture project's graph."""
    return Project(manifest.read(prepared_project))


@pytest.fixture
def warehouse(warehouse_settings: WarehouseSettings) -> Warehouse:
    """The warehouse with its first raw rows and nothing built."""
    found = Warehouse(warehouse_settings)
    found.reset()
    return found


@pytest.fixture
def settings(project_dir: Path, warehouse_settings: WarehouseSettings, ops_store: OpsStore, tmp_path: Path) -> Settings:
    """Settings that lead to this test's project, warehouse and ops store."""
    return make_settings(project_dir, warehouse_settings, ops_store._settings.dsn, tmp_path)
