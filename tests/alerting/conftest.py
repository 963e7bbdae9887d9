"""What the tests of alerting share: a Dagster on Postgres for each module, and a plant in an ops store of its own."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest

from adinsights_orchestration.alerting.gathering import disks
from adinsights_orchestration.ops_store.store import OpsStore
from tests.alerting.plant import Plant
from tests.conftest import PostgresServer, dagster_instance_on


@pytest.fixture(scope="module")
def instance(postgres_server: PostgresServer) -> Iterator[dg.DagsterInstance]:
    with dagster_instance_on(postgres_server) as shared:
        yield shared


@pytest.fixture
def plant(ops_store: OpsStore, instance: dg.DagsterInstance) -> Plant:
    return Plant(ops_store, instance)


@pytest.fixture(autouse=True)
def no_disk_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """How full the disk is that tests run on is nobody's incident."""
    monkeypatch.setattr(disks, "folders", lambda _settings: [])
