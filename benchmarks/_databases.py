"""The databases of a benchmark: an embedded Postgres with durable commits, as in production."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg
from dagster._core.test_utils import instance_for_test
from pydantic import SecretStr

from adinsights_orchestration.local.postgres import EmbeddedPostgres
from adinsights_orchestration.ops_store.store import OpsStore
from adinsights_orchestration.settings import OpsStoreSettings
from benchmarks._machine import free_port


@contextmanager
def databases() -> Iterator[tuple[OpsStore, dg.DagsterInstance]]:
    """An ops store and a Dagster instance on one embedded Postgres, with durable commits as in production."""
    with tempfile.TemporaryDirectory(prefix="adinsights-bench-") as folder:
        Path(folder).chmod(0o755)  # root runs the server as another user
        server = EmbeddedPostgres(Path(folder) / "pg", free_port(), die_with_parent=True)
        server.start()
        try:
            store = OpsStore(OpsStoreSettings(dsn=SecretStr(server.create_database("ops"))))
            store.migrate()
            server.create_database("dagster")
            address = {"hostname": server.host, "port": server.port, "username": server.user}
            address |= {"password": server.password, "db_name": "dagster", "scheme": "postgresql+psycopg2"}
            overrides = {"storage": {"postgres": {"postgres_db": address}}, "telemetry": {"enabled": False}}
            with instance_for_test(overrides=overrides) as instance:
                yield store, instance
            store.dispose()
        finally:
            server.stop()
