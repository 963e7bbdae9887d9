"""The platform of a test of health."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from dagster._core.test_utils import instance_for_test

from adinsights_orchestration.ops_store.store import OpsStore
from tests.conftest import PostgresServer
from tests.health.world import Platform, platform


@pytest.fixture
def world(postgres_server: PostgresServer, ops_store: OpsStore, tmp_path: Path) -> Iterator[Platform]:
    """A platform of this test's own, all of it well."""
    with instance_for_test() as instance, platform(postgres_server, ops_store, instance, tmp_path) as found:
        yield found
