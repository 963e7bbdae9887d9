"""Fixtures that every domain's tests share: a real Postgres, databases in it, a migrated ops store."""

from __future__ import annotations

import random
import signal
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import hypothesis
import psycopg
import pytest
import sqlalchemy as sa
from dagster._core.test_utils import instance_for_test
from psycopg import sql
from pydantic import SecretStr

from adinsights_orchestration.local.postgres import EmbeddedPostgres
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import OpsStoreSettings
from tests.backend.backend_tables import Backend, create_backend
from tests.compiled import share_compiled_statements
from tests.memory import scratch_folder
from tests.recycling import Recycled
from tests.scheduling import Together, rank

if TYPE_CHECKING:
    from tests.objects_served.weed import S3

# How fast a machine is, and what else it does, fails no property.
hypothesis.settings.register_profile("machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("machine")
share_compiled_statements()
# What is not over by then hangs: tells an end from none on the busiest machine, and measures no speed.
HANG_SECONDS = 45.0
LOWEST_PORT = 10_000  # above those that servers have by default
_ports = random.SystemRandom()  # Hypothesis seeds the other one, with the same number in every worker
DEBIAN_POSTGRES_15 = Path("/usr/lib/postgresql/15/bin")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long tests first."""
    items.sort(key=lambda item: rank(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Together:
    """Which tests workers take together."""
    return Together(config, log)


def free_port() -> int:
    """A loopback port that is free, and that stays so until the caller listens there or for as long as nobody shall.

    It is none of those that the system hands out by itself: one of them may be another worker's server or connection
    before it is used.
    """
    while True:
        port = _ports.randrange(LOWEST_PORT, lowest_port_of_the_system())
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def lowest_port_of_the_system() -> int:
    """Where the range begins from which servers and connections get ports that nobody chose."""
    known = Path("/proc/sys/net/ipv4/ip_local_port_range")
    return int(known.read_text().split()[0]) if known.exists() else 32_768


class PostgresServer:
    """What tests see of a server: its address, and fresh databases."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self.server = server
        self.host, self.port, self.user, self.password = server.host, server.port, server.user, server.password
        self._dagster: Recycled | None = None
        self._backends: Recycled | None = None

    def create_database(self, prefix: str = "test") -> str:
        """Creates a database of its own and returns its address."""
        return self.server.create_database(f"{prefix}_{uuid.uuid4().hex[:10]}")

    def copy_database(self, template: str) -> str:
        """Creates a copy of a database that nobody is connected to, and returns its address."""
        name = f"{template}_{uuid.uuid4().hex[:10]}"
        with psycopg.connect(self.server.dsn(), autocommit=True) as connection:
            copy = sql.SQL("create database {} template {}")
            connection.execute(copy.format(sql.Identifier(name), sql.Identifier(template)))
        return self.server.dsn(name)

    @property
    def dagster(self) -> Recycled:
        """Databases with Dagster's tables: copies, since Dagster takes a second to make them."""
        if self._dagster is None:
            template = self.create_database("dagster").rsplit("/", 1)[1]
            with _instance_on(self, template):
                pass
            kept = ("alembic_version", "instance_info", "secondary_indexes")
            self._dagster = Recycled(self.server, lambda: self.copy_database(template), "public", kept)
        return self._dagster

    @property
    def backends(self) -> Recycled:
        """Databases with the backend's tables."""
        if self._backends is None:
            template = create_backend(self.create_database).dsn.rsplit("/", 1)[1]
            self._backends = Recycled(self.server, lambda: self.copy_database(template), "public", [])
        return self._backends


def _server(name: str, bin_dir: Path | None) -> Iterator[PostgresServer]:
    with scratch_folder(name) as folder:
        server = EmbeddedPostgres(
            folder / "pg",
            free_port(),
            bin_dir=bin_dir,
            settings={"fsync": "off", "full_page_writes": "off", "max_wal_size": "256MB", "min_wal_size": "64MB"},
            die_with_parent=True,
        )
        server.start()
        try:
            yield PostgresServer(server)
        finally:
            _end(server)


def _end(server: EmbeddedPostgres) -> None:
    """Ends a server whose data nobody needs any more, without its writing them out first."""
    process = server.find()
    if process is not None:
        process.send_signal(signal.SIGQUIT)
        process.wait(30)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The embedded Postgres, one for the whole test session."""
    yield from _server("pg", None)


@pytest.fixture(scope="session")
def postgres_15_server() -> Iterator[PostgresServer]:
    """Debian's PostgreSQL 15, which production runs; skipped where the machine has none."""
    if not (DEBIAN_POSTGRES_15 / "initdb").exists():
        pytest.skip("Debian's postgresql-15 is not installed")
    yield from _server("pg15", DEBIAN_POSTGRES_15)


@pytest.fixture
def database(postgres_server: PostgresServer) -> str:
    """The address of an empty database of this test's own."""
    return postgres_server.create_database()


@pytest.fixture(scope="session")
def migrated_ops_store(postgres_server: PostgresServer) -> str:
    """The name of a migrated ops store, to be copied."""
    store = OpsStore(OpsStoreSettings(dsn=SecretStr(postgres_server.server.create_database("ops_template"))))
    store.migrate()
    store.dispose()
    return "ops_template"


@pytest.fixture(scope="session")
def recycled(postgres_server: PostgresServer, migrated_ops_store: str) -> Recycled:
    """Migrated ops stores that tests use one after another."""
    copy = partial(postgres_server.copy_database, migrated_ops_store)
    return Recycled(postgres_server.server, copy, "adinsights_ops", ["alembic_version"])


@pytest.fixture
def ops_store(recycled: Recycled) -> Iterator[OpsStore]:
    """A migrated and empty ops store in a database that is this test's own for as long as it runs."""
    address = recycled.borrow()
    store = OpsStore(OpsStoreSettings(dsn=SecretStr(address)))
    yield store
    store.dispose()
    recycled.give_back(address)


@pytest.fixture
def backend(postgres_server: PostgresServer) -> Iterator[Backend]:
    """The backend's tables, empty, in a database that is this test's own for as long as it runs."""
    address = postgres_server.backends.borrow()
    yield Backend(address)
    postgres_server.backends.give_back(address)


@contextmanager
def dagster_instance_on(server: PostgresServer, *, pooled: bool = True) -> Iterator[dg.DagsterInstance]:
    """A Dagster instance whose storage is a fresh Postgres database, as in production.

    Args:
        server: The server.
        pooled: Keep its connections. Dagster opens one for each statement, which costs ten times the statement.
    """
    address = server.dagster.borrow()
    with _instance_on(server, address.rsplit("/", 1)[1]) as instance:
        if pooled:
            with _pooled(instance):
                yield instance
        else:
            yield instance
    server.dagster.give_back(address)


@contextmanager
def _instance_on(server: PostgresServer, database: str) -> Iterator[dg.DagsterInstance]:
    postgres = {"hostname": server.host, "port": server.port, "username": server.user, "password": server.password}
    postgres |= {"db_name": database, "scheme": "postgresql+psycopg2"}
    overrides = {"storage": {"postgres": {"postgres_db": postgres}}, "telemetry": {"enabled": False}}
    with instance_for_test(overrides=overrides) as instance:
        yield instance


@contextmanager
def _pooled(instance: dg.DagsterInstance) -> Iterator[None]:
    storages: tuple[Any, ...] = (instance.run_storage, instance.event_log_storage, instance.schedule_storage)
    engines = []
    for storage in storages:
        storage._engine = sa.create_engine(
            storage.postgres_url, isolation_level="AUTOCOMMIT", pool_size=0, pool_pre_ping=True
        )
        engines.append(storage._engine)
    try:
        yield
    finally:
        for engine in engines:
            engine.dispose()


@pytest.fixture
def postgres_instance(postgres_server: PostgresServer) -> Iterator[dg.DagsterInstance]:
    """A Dagster instance on Postgres storage of this test's own."""
    with dagster_instance_on(postgres_server) as instance:
        yield instance


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """A real S3 server, one for the whole session; each test takes a prefix of its own."""
    from tests.objects_served.weed import running_weed  # it asks for a free port of ours

    with running_weed(tmp_path_factory.mktemp("s3")) as server:
        yield server
