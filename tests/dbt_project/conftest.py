"""A warehouse with the baseline, built once per session; each test gets it back as it was.

All tests use one database name, because a parsed project holds it: the database is dropped and made again from a
template, which takes well under a second, and dbt parses the project once.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from tests.conftest import PostgresServer
from tests.dbt_project.project import DbtProject, Outcome, project_on
from tests.dbt_project.raw_data import load_baseline
from tests.dbt_project.raw_tables import RawWarehouse


@dataclass(frozen=True)
class Databases:
    """The warehouse's database and its templates: `raw` has the baseline, `built` also everything that dbt makes."""

    server: PostgresServer
    name: str

    def address(self, database: str) -> str:
        """libpq's connection string."""
        server = self.server
        password = f" password={server.password}" if server.password else ""
        return f"host={server.host} port={server.port} user={server.user} dbname={database}{password}"

    @property
    def warehouse(self) -> RawWarehouse:
        return RawWarehouse(self.address(self.name))

    def keep(self, template: str) -> None:
        """Keeps the warehouse as it is now under a template's name."""
        self._copy(self.name, f"{self.name}_{template}")

    def restore(self, template: str) -> RawWarehouse:
        """Makes the warehouse again from a template."""
        self._copy(f"{self.name}_{template}", self.name)
        return self.warehouse

    def create_empty(self) -> RawWarehouse:
        """Makes the warehouse again without anything in it."""
        self._copy("template0", self.name)
        return self.warehouse

    def drop(self) -> None:
        for suffix in ("", "_raw", "_built"):
            self._execute("drop database if exists {} with (force)", self.name + suffix)

    def _copy(self, template: str, name: str) -> None:
        self._execute("drop database if exists {} with (force)", name)
        self._execute("create database {} template {}", name, template)

    def _execute(self, statement: str, *names: str) -> None:
        with psycopg.connect(self.address("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


@dataclass(frozen=True)
class Baseline:
    """The session's state: the databases, the parsed project, and what the first build of everything reported."""

    databases: Databases
    project: DbtProject
    first_build: Outcome


@pytest.fixture(scope="session")
def baseline(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Baseline]:
    """The baseline, built once with `dbt build`, unit tests included."""
    databases = Databases(postgres_server, f"warehouse_{uuid.uuid4().hex[:8]}")
    load_baseline(databases.create_empty())
    databases.keep("raw")
    project = project_on(databases.warehouse, tmp_path_factory.mktemp("dbt_target"))
    first_build = project.run("build", writes=True)
    assert first_build.success, str(first_build)
    databases.keep("built")
    yield Baseline(databases, project, first_build)
    databases.drop()


@pytest.fixture
def warehouse(baseline: Baseline) -> RawWarehouse:
    """The warehouse after the first build, this test's to change."""
    return baseline.databases.restore("built")


@pytest.fixture
def raw_warehouse(baseline: Baseline) -> RawWarehouse:
    """The warehouse with raw tables only."""
    return baseline.databases.restore("raw")


@pytest.fixture
def project(baseline: Baseline) -> DbtProject:
    """The repository's own project; never patch it."""
    return baseline.project


@pytest.fixture
def project_copy(baseline: Baseline, tmp_path: Path) -> DbtProject:
    """A copy of the project, for a test to make wrong or to run with other variables."""
    return baseline.project.copy(tmp_path)
