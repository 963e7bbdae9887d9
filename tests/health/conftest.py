"""The platform of a test of health."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from adinsights_orchestration.ops_store.store import OpsStore
from tests.conftest import PostgresServer
from tests.health.world import Platform, platform


@pytest.fixture
def world(
    postgres_server: PostgresServer, ops_store: OpsStore, postgres_instance: dg.DagsterInstance, tmp_path: Path
) -> Iterator[Platform]:
    """A platform of this test's own, all of it well."""
    with platform(postgres_server, ops_store, postgres_instance, tmp_path) as found:
        yield found
